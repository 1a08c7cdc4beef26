"""Writes the seeds of tests/fuzz/corpus for safetensors, indexes and GGUF: small files that reach every stage of a parser."""
import json
import pathlib

import gguf
import numpy as np
from safetensors.numpy import save_file

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "fuzz" / "corpus"


def tiny_gguf(name, spm):
    path = OUT / "gguf" / name
    w = gguf.GGUFWriter(str(path), "gemma2" if spm else "llama")
    w.add_context_length(8), w.add_block_count(1), w.add_embedding_length(4), w.add_feed_forward_length(4)
    w.add_head_count(2), w.add_head_count_kv(1), w.add_layer_norm_rms_eps(1e-5), w.add_rope_dimension_count(2)
    if spm:
        w.add_tokenizer_model("llama"), w.add_token_list(["<unk>", "<s>", "a", "b", "ab", "  "])
        w.add_token_scores([0.0, 0.0, -1.0, -2.0, -1.0, -9.0])
    else:
        w.add_tokenizer_model("gpt2"), w.add_tokenizer_pre("qwen2"), w.add_token_list(["<|endoftext|>", "<s>", "a", "b", "ab", "é "])
        w.add_token_merges(["a b"])
    w.add_token_types([3, 3, 1, 1, 1, 4]), w.add_bos_token_id(1), w.add_eos_token_id(0), w.add_add_bos_token(True)
    shapes = {"token_embd": (6, 4), "output_norm": (4,), "blk.0.attn_norm": (4,), "blk.0.ffn_norm": (4,), "blk.0.attn_q": (4, 4),
              "blk.0.attn_k": (2, 4), "blk.0.attn_v": (2, 4), "blk.0.attn_output": (4, 4), "blk.0.ffn_gate": (4, 4),
              "blk.0.ffn_up": (4, 4), "blk.0.ffn_down": (4, 4)}
    if spm:
        shapes |= {"blk.0.post_attention_norm": (4,), "blk.0.post_ffw_norm": (4,)}
    for tensor, shape in shapes.items():
        w.add_tensor(tensor + ".weight", np.zeros(shape, np.float16))
    w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()


def blocks_gguf():
    w = gguf.GGUFWriter(str(OUT / "gguf" / "blocks.gguf"), "llama")
    for kind in ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "TQ1_0", "TQ2_0"):
        kind = gguf.GGMLQuantizationType[kind]
        w.add_tensor(kind.name, np.full((1, gguf.GGML_QUANT_SIZES[kind][1]), 0x35, np.uint8), raw_dtype=kind)
    w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()


if __name__ == "__main__":
    for folder in ("safetensors", "index_json", "gguf"):
        (OUT / folder).mkdir(parents=True, exist_ok=True)
    save_file({"a": np.zeros((2, 3), np.float32), "b": np.zeros((0, 2), np.int8), "é": np.ones(3, np.uint8)},
              OUT / "safetensors" / "three.safetensors", metadata={"format": "pt"})
    save_file({}, OUT / "safetensors" / "none.safetensors")
    (OUT / "index_json" / "two.json").write_text(json.dumps({"metadata": {"total_size": 16, "total_parameters": 4.0},
                                                             "weight_map": {"a": "m-1-of-2.safetensors", "b": "sub/m-2-of-2.safetensors"}}))
    tiny_gguf("llama.gguf", False)
    tiny_gguf("gemma2.gguf", True)
    blocks_gguf()
    for path in OUT.rglob("*"):
        if path.is_file():
            path.chmod(0o644)

"""Writes tests/fixtures/gguf: block vectors of every type that is imported, and one tiny model a family with what
transformers makes of it (from_pretrained(..., gguf_file=...)). Run with the pinned transformers and gguf packages."""
import json
import os
import pathlib
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as T
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "fixtures" / "gguf"
TYPES = [T.F32, T.F16, T.BF16, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.Q2_K, T.Q3_K, T.Q4_K, T.Q5_K, T.Q6_K, T.IQ4_NL,
         T.IQ4_XS, T.TQ1_0, T.TQ2_0]
# Where the half-precision scales of a block stand.
SCALES = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q2_K: [80, 82], T.Q3_K: [108], T.Q4_K: [0, 2],
          T.Q5_K: [0, 2], T.Q6_K: [208], T.IQ4_NL: [0], T.IQ4_XS: [0], T.TQ1_0: [52], T.TQ2_0: [64]}


def block_vectors():
    rng = np.random.default_rng(7)
    out = {}
    for kind in TYPES:
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        count = 64 if elements == 1 else 16 if elements == 32 else 6
        blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
        if kind == T.F32:
            blocks = rng.standard_normal(count).astype(np.float32).view(np.uint8).reshape(count, size)
        for place in SCALES.get(kind, []):
            scale = (rng.standard_normal(count) * 0.02).astype(np.float16)
            scale[0], scale[1], scale[2] = np.float16(6e-8), np.float16(-0.0), np.float16(65504)
            blocks[:, place : place + 2] = scale.view(np.uint8).reshape(count, 2)
        data = blocks.reshape(1, -1)
        with np.errstate(all="ignore"):
            values = gguf.quants.dequantize(data, kind).astype(np.float32).reshape(-1)
        out[kind.name + ".blocks"] = data.reshape(-1).copy()
        out[kind.name + ".values"] = values.copy()
    save_file(out, OUT / "blocks.safetensors")
    (OUT / "blocks.safetensors").chmod(0o644)


CORPUS = ["the quick brown fox jumps over the lazy dog's back 1234 times", "don't they're we'll I'm 42 3.14 hello world",
          "größe naïve über straße 日本 中文 😀", "def f(a, b):\n    return a + b\n\n\tx = 10"] * 4


def byte_level_vocabulary():
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tok.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=340, special_tokens=special, show_progress=False,
                                                        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    model = json.loads(tok.to_str())["model"]
    tokens = [t for t, _ in sorted(model["vocab"].items(), key=lambda kv: kv[1])]
    types = [3 if t in special else 1 for t in tokens]
    # What real files hold beside: plain added tokens, a control token outside of the alphabet, an unused one.
    for token, kind in [("<think>", 4), ("</think>", 4), ("<｜odd｜>", 3), ("a  b", 4), ("[PAD0]", 5)]:
        tokens.append(token)
        types.append(kind)
    return tokens, types, [" ".join(m) for m in model["merges"]]


def sentencepiece_vocabulary(specials):
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Metaspace()
    tok.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=140, show_progress=False))
    model = json.loads(tok.to_str())["model"]
    pieces = [t for t, _ in sorted(model["vocab"].items(), key=lambda kv: kv[1])]
    tokens = list(specials) + [f"<0x{i:02X}>" for i in range(256)]
    types = [2 if t == "<unk>" else 3 for t in specials] + [6] * 256
    scores = [0.0] * len(tokens)
    for rank, piece in enumerate(p for p in pieces if p not in specials):
        tokens.append(piece)
        types.append(1)
        scores.append(-float(rank // 2))  # equal scores: order must be stable
    for token, kind in [("  ", 4), ("    ", 4), ("<start_of_turn>", 3), ("<custom>", 4)]:
        tokens.append(token)
        types.append(kind)
        scores.append(-1000.0)
    return tokens, types, scores


HIDDEN, FFN, HEADS, KV, LAYERS = 32, 64, 4, 2, 2


def head_width(family):
    return 128 if family == "qwen3" else 8  # transformers takes Qwen3's width for granted


def tensors_of(family, vocab, rng, tied):
    head = head_width(family)
    q, kv = HEADS * head, KV * head
    shapes = {"token_embd.weight": (vocab, HIDDEN), "output_norm.weight": (HIDDEN,)}
    if not tied:
        shapes["output.weight"] = (vocab, HIDDEN)
    for i in range(LAYERS):
        layer = {"attn_norm.weight": (HIDDEN,), "attn_output.weight": (HIDDEN, q), "ffn_down.weight": (HIDDEN, FFN),
                 "ffn_norm.weight": (HIDDEN,)}
        if family == "phi3":
            layer |= {"attn_qkv.weight": (q + 2 * kv, HIDDEN), "ffn_up.weight": (2 * FFN, HIDDEN)}
        else:
            layer |= {"attn_q.weight": (q, HIDDEN), "attn_k.weight": (kv, HIDDEN), "attn_v.weight": (kv, HIDDEN),
                      "ffn_gate.weight": (FFN, HIDDEN), "ffn_up.weight": (FFN, HIDDEN)}
        if family == "qwen2":
            layer |= {"attn_q.bias": (q,), "attn_k.bias": (kv,), "attn_v.bias": (kv,)}
        if family in ("qwen3", "gemma3"):
            layer |= {"attn_q_norm.weight": (head,), "attn_k_norm.weight": (head,)}
        if family.startswith("gemma"):
            layer |= {"post_attention_norm.weight": (HIDDEN,), "post_ffw_norm.weight": (HIDDEN,)}
        shapes |= {f"blk.{i}.{name}": shape for name, shape in layer.items()}
    return {name: (rng.standard_normal(shape) * 0.1 + ("norm" in name)).astype(np.float32) for name, shape in shapes.items()}


def write_model(path, family, name, vocabulary, extra, tied, rng):
    w = gguf.GGUFWriter(str(path), family)
    if name:
        w.add_name(name)
    w.add_context_length(128)
    w.add_block_count(LAYERS)
    w.add_embedding_length(HIDDEN)
    w.add_feed_forward_length(FFN)
    w.add_head_count(HEADS)
    w.add_head_count_kv(KV)
    w.add_layer_norm_rms_eps(1e-5 if family != "qwen2" else 1e-6)
    w.add_rope_freq_base(50000.0)
    if family == "llama":
        w.add_rope_dimension_count(head_width(family))
    if family in ("qwen3", "gemma2", "gemma3"):
        w.add_key_length(head_width(family))
    if family.startswith("gemma"):
        w.add_sliding_window(64)
    kind, tokens, types, rest = vocabulary
    w.add_vocab_size(len(tokens))
    w.add_tokenizer_model(kind)
    w.add_token_list(tokens)
    w.add_token_types(types)
    w.add_token_merges(rest) if kind == "gpt2" else w.add_token_scores(rest)
    for key, value in extra.items():
        getattr(w, key)(value)
    quants = [T.Q8_0, T.Q4_0, T.Q5_1, T.F16, T.BF16]
    for i, (tensor, data) in enumerate(tensors_of(family, len(tokens), rng, tied).items()):
        if data.ndim == 1:
            w.add_tensor(tensor, data)
        else:
            kind = quants[i % len(quants)]
            w.add_tensor(tensor, gguf.quants.quantize(data, kind), raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def fnv1a(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


def expectation(path, with_tensors):
    where, file = str(path.parent), path.name
    config = AutoConfig.from_pretrained(where, gguf_file=file).to_dict()
    for key in ("_model_name_or_path", "_name_or_path", "transformers_version", "architectures", "dtype"):
        config.pop(key, None)
    tokenizer = AutoTokenizer.from_pretrained(where, gguf_file=file)
    out = {"config": {k: v for k, v in config.items()}, "tokenizer": json.loads(tokenizer.backend_tokenizer.to_str()),
           "named": {k: getattr(tokenizer, k) for k in ("bos_token", "eos_token", "pad_token", "unk_token")}}
    if with_tensors:
        model = AutoModelForCausalLM.from_pretrained(where, gguf_file=file, dtype=torch.float32)
        out["generation"] = {k: v for k, v in model.generation_config.to_dict().items() if k.endswith("token_id") and v is not None}
        tied = config["tie_word_embeddings"]
        out["tensors"] = {k: {"shape": list(v.shape), "fnv1a": fnv1a(v.contiguous().numpy().tobytes())}
                          for k, v in model.state_dict().items() if not (tied and k == "lm_head.weight")}
    return out


def models_of_families():
    byte_level = byte_level_vocabulary()
    spm = sentencepiece_vocabulary(["<unk>", "<s>", "</s>"])
    gemma = sentencepiece_vocabulary(["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"])
    gpt2, llama, spm_gemma = ("gpt2", *byte_level), ("llama", *spm), ("llama", *gemma)
    chat = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    ids = {"add_bos_token_id": 1, "add_eos_token_id": 2}
    cases = {
        "llama_smollm": ("llama", "Tiny", gpt2, {"add_tokenizer_pre": "smollm", "add_unk_token_id": 0, "add_pad_token_id": 2,
                                                 "add_add_bos_token": False, "add_chat_template": chat, **ids}, True),
        "llama_bpe": ("llama", None, gpt2, {"add_tokenizer_pre": "llama-bpe", "add_add_bos_token": True, **ids}, False),
        "llama_spm": ("llama", "Tiny", llama, {"add_unk_token_id": 0, **ids}, False),
        "mistral": ("llama", "mistral", llama, {"add_add_bos_token": True, "add_add_eos_token": True, **ids}, False),
        "qwen2": ("qwen2", "Tiny", gpt2, {"add_tokenizer_pre": "qwen2", "add_eos_token_id": 2, "add_pad_token_id": 0,
                                          "add_add_bos_token": False, "add_chat_template": chat}, True),
        "qwen3": ("qwen3", "Tiny", gpt2, {"add_tokenizer_pre": "qwen2", **ids}, False),
        "gemma2": ("gemma2", "Tiny", spm_gemma, {"add_bos_token_id": 2, "add_eos_token_id": 1, "add_unk_token_id": 3,
                                                 "add_pad_token_id": 0, "add_add_bos_token": True}, True),
        "gemma3": ("gemma3", "Tiny", spm_gemma, {"add_bos_token_id": 2, "add_eos_token_id": 1, "add_unk_token_id": 3,
                                                 "add_pad_token_id": 0, "add_add_bos_token": True}, True),
        "phi3": ("phi3", "Tiny", llama, {"add_unk_token_id": 0, "add_pad_token_id": 0, "add_add_bos_token": False, **ids}, False),
    }
    rng = np.random.default_rng(3)
    for case, (family, name, vocabulary, extra, tied) in cases.items():
        path = OUT / f"{case}.gguf"
        write_model(path, family, name, vocabulary, extra, tied, rng)
        # The package knows no tensor names for the family "mistral": only its configuration and tokenizer are compared.
        (OUT / f"{case}.json").write_text(json.dumps(expectation(path, case != "mistral"), ensure_ascii=False, separators=(",", ":")))
        print(case, path.stat().st_size)


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    block_vectors()
    models_of_families()

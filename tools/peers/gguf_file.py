"""Writes a llama-shaped Hugging Face checkpoint as a GGUF file, for engines that read nothing else. One tensor is in memory at a time.

`python gguf_file.py DIR FILE TYPE`, TYPE one of bf16, q8_0, q4_0, or tq2_0 of a packed BitNet checkpoint. Embeddings and the head of
q4_0 and tq2_0 stay q8_0. The vocabulary is that of tokenizer.json where it holds byte pairs, else of placeholders: ids go in and come
out, no text does. A checkpoint of another family is refused.
"""

import json
import pathlib
import sys

import gguf
import numpy
import torch
from safetensors import safe_open

TYPES = {"bf16": gguf.GGMLQuantizationType.BF16, "q8_0": gguf.GGMLQuantizationType.Q8_0,
         "q4_0": gguf.GGMLQuantizationType.Q4_0, "tq2_0": gguf.GGMLQuantizationType.TQ2_0}
FILE_TYPES = {"bf16": gguf.LlamaFileType.MOSTLY_BF16, "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
              "q4_0": gguf.LlamaFileType.MOSTLY_Q4_0, "tq2_0": gguf.LlamaFileType.MOSTLY_TQ2_0}
ARCHITECTURES = {"llama": gguf.MODEL_ARCH.LLAMA, "mistral": gguf.MODEL_ARCH.LLAMA, "bitnet": gguf.MODEL_ARCH.BITNET}
# BitNet's norms under the names that gguf knows them by.
OTHER_NAMES = {"attn_sub_norm": "inner_attn_ln", "ffn_sub_norm": "ffn_layernorm"}


class Checkpoint:
    """Tensors by name, from one file or from shards."""

    def __init__(self, directory):
        self.config = json.loads((directory / "config.json").read_text())
        index = directory / "model.safetensors.index.json"
        if index.exists():
            self.files = {name: directory / file for name, file in json.loads(index.read_text())["weight_map"].items()}
        else:
            with safe_open(directory / "model.safetensors", "pt") as file:
                self.files = {name: directory / "model.safetensors" for name in file.keys()}

    def raw(self, name):
        with safe_open(self.files[name], "pt") as file:
            return file.get_tensor(name)

    def names(self):
        return [name for name in self.files if not name.endswith("weight_scale")]

    def tensor(self, name):
        """Packed ternary values are unpacked: four rows a byte, one a quarter of the matrix."""
        weight = self.raw(name)
        if weight.dtype != torch.uint8:
            return weight
        values = torch.cat([(weight >> 2 * i & 3).to(torch.int8) - 1 for i in range(4)])
        return values.to(torch.float32) * self.raw(name + "_scale").to(torch.float32)


def interleaved(weight, heads):
    """Rows of q and k in the order in which llama.cpp rotates pairs: (i, i + half) become neighbours."""
    rows, cols = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, cols).swapaxes(1, 2).reshape(rows, cols)


def write_header(writer, config):
    heads = config["num_attention_heads"]
    dim = config.get("head_dim") or config["hidden_size"] // heads
    rope = config.get("rope_parameters") or config
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(dim)
    writer.add_value_length(dim)
    writer.add_rope_dimension_count(dim)
    writer.add_rope_freq_base(rope.get("rope_theta", 10000.0))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])


def byte_pairs(directory):
    """Tokens by id, merges, and ids of tokens that are no text; placeholders are the caller's."""
    path = directory / "tokenizer.json"
    tokenizer = json.loads(path.read_text()) if path.exists() else {"model": {}}
    if tokenizer["model"].get("type") != "BPE":
        letters = [chr(c) for c in [*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 324)]]
        return dict(enumerate(letters)), ["a b"], set()
    tokens = {i: token for token, i in tokenizer["model"]["vocab"].items()}
    added = {token["id"]: token["content"] for token in tokenizer.get("added_tokens", [])}
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
    return tokens | added, merges, set(added)


def write_vocabulary(writer, directory, size):
    tokens, merges, control = byte_pairs(directory)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([tokens.get(i, f"<unused{i}>") for i in range(size)])
    writer.add_token_types([gguf.TokenType.CONTROL if i in control else gguf.TokenType.NORMAL for i in range(size)])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def tensor_type(name, wanted, columns):
    if name.endswith("norm.weight"):
        return gguf.GGMLQuantizationType.F32
    if wanted in (TYPES["q4_0"], TYPES["tq2_0"]) and ("embed_tokens" in name or "lm_head" in name):
        wanted = gguf.GGMLQuantizationType.Q8_0
    block = gguf.GGML_QUANT_SIZES[wanted][0]
    if columns % block != 0:
        raise SystemExit(f"{name} has {columns} columns; {wanted.name} needs a multiple of {block}")
    return wanted


def write(directory, path, kind_name):
    wanted = TYPES[kind_name]
    checkpoint = Checkpoint(directory)
    config = checkpoint.config
    if config["model_type"] not in ARCHITECTURES:
        raise SystemExit(f"{directory}: model_type is {config['model_type']}, not one of {', '.join(ARCHITECTURES)}")
    architecture = ARCHITECTURES[config["model_type"]]
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[architecture], use_temp_file=False)
    writer.add_file_type(FILE_TYPES[kind_name])
    write_header(writer, config)
    write_vocabulary(writer, directory, config["vocab_size"])
    names = gguf.get_tensor_name_map(architecture, config["num_hidden_layers"])
    plan = []
    for name in checkpoint.names():
        known = ".".join(OTHER_NAMES.get(part, part) for part in name.split("."))
        target = names.get_name(known, try_suffixes=(".weight", ".bias"))
        if target is None:
            raise SystemExit(f"no GGUF name for {name}")
        shape = tuple(checkpoint.tensor(name).shape)
        kind = tensor_type(name, wanted, shape[-1])
        stored = gguf.quant_shape_to_byte_shape(shape, kind)
        size = int(numpy.prod(stored))
        writer.add_tensor_info(target, shape if kind == gguf.GGMLQuantizationType.F32 else stored,
                               numpy.dtype(numpy.float32 if kind == gguf.GGMLQuantizationType.F32 else numpy.uint8), size,
                               kind)
        plan.append((name, kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, kind in plan:
        weight = checkpoint.tensor(name).to(torch.float32).numpy()
        if name.endswith("q_proj.weight"):
            weight = interleaved(weight, config["num_attention_heads"])
        if name.endswith("k_proj.weight"):
            weight = interleaved(weight, config["num_key_value_heads"])
        writer.write_tensor_data(weight if kind == gguf.GGMLQuantizationType.F32 else gguf.quants.quantize(weight, kind))
    writer.close()


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[3] not in TYPES:
        sys.exit("usage: gguf_file.py CHECKPOINT FILE bf16|q8_0|q4_0|tq2_0")
    write(pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3])

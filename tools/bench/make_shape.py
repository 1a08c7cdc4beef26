#!/usr/bin/env python3
"""Writes a checkpoint of a well-known model's shape (or a part of its layers) with seeded random weights.

    make_shape.py DIRECTORY [--shape llama-2-7b|mistral-7b|tinyllama-1.1b|bitnet-2b] [--layers N]

Values are normal-like bytes drawn once and repeated at different offsets, so that a large file is made at the speed of
the disk; no two rows of one matrix are equal. BitNet's linears are packed ternary values. Activations are as large as
trained models have them, which is what LLM.int8()'s time depends on: six features beyond its threshold (Dettmers et al. 2022,
section 4.1: 6 to 7 of a model of 6.7 billion), all else well below. Needs numpy and nothing else.
"""

import argparse
import json
import pathlib
import struct

import numpy as np

LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "rms_norm_eps": 1e-5,
         "rope_theta": 10000.0, "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2,
         "torch_dtype": "bfloat16", "vocab_size": 32000}
SHAPES = {
    "llama-2-7b": {**LLAMA, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
                   "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 4096},
    "mistral-7b": {**LLAMA, "architectures": ["MistralForCausalLM"], "model_type": "mistral", "hidden_size": 4096,
                   "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
                   "num_key_value_heads": 8, "max_position_embeddings": 32768, "rope_theta": 1000000.0,
                   "sliding_window": None},
    "tinyllama-1.1b": {**LLAMA, "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22,
                       "num_attention_heads": 32, "num_key_value_heads": 4, "max_position_embeddings": 2048},
    "bitnet-2b": {**LLAMA, "architectures": ["BitNetForCausalLM"], "model_type": "bitnet", "hidden_act": "relu2",
                  "hidden_size": 2560, "intermediate_size": 6912, "num_hidden_layers": 30, "num_attention_heads": 20,
                  "num_key_value_heads": 5, "max_position_embeddings": 4096, "rope_theta": 500000.0,
                  "vocab_size": 128256, "tie_word_embeddings": True,
                  "quantization_config": {"quant_method": "bitnet", "linear_class": "autobitlinear",
                                          "quantization_mode": "offline", "modules_to_not_convert": None}},
}
NORM, OUTLIER_NORM, OUTLIERS = 0.4, 8.0, 6  # weights of norms, and of the norms' features beyond the threshold
PACKED_ROWS = 4  # of a byte of packed ternary values


def tensors(config):
    """Name, dtype and shape of each tensor."""
    hidden, inner, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    narrow = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    bitnet = config["model_type"] == "bitnet"

    def linear(name, rows, cols):
        if not bitnet:
            return [(name + ".weight", "BF16", (rows, cols))]
        return [(name + ".weight", "U8", (rows // PACKED_ROWS, cols)), (name + ".weight_scale", "BF16", (1,))]

    yield "model.embed_tokens.weight", "BF16", (vocab, hidden)
    for i in range(config["num_hidden_layers"]):
        p = f"model.layers.{i}."
        yield p + "input_layernorm.weight", "BF16", (hidden,)
        yield p + "post_attention_layernorm.weight", "BF16", (hidden,)
        if bitnet:
            yield p + "self_attn.attn_sub_norm.weight", "BF16", (hidden,)
            yield p + "mlp.ffn_sub_norm.weight", "BF16", (inner,)
        yield from linear(p + "mlp.down_proj", hidden, inner)
        yield from linear(p + "mlp.gate_proj", inner, hidden)
        yield from linear(p + "mlp.up_proj", inner, hidden)
        for name, rows in (("k", narrow), ("q", hidden), ("v", narrow), ("o", hidden)):
            yield from linear(p + f"self_attn.{name}_proj", rows, hidden)
    yield "model.norm.weight", "BF16", (hidden,)
    if not config["tie_word_embeddings"]:
        yield "lm_head.weight", "BF16", (vocab, hidden)


def bfloat16(values):
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def norm_weights(count):
    weights = np.full(count, NORM)
    weights[np.arange(OUTLIERS) * count // OUTLIERS + 5] = OUTLIER_NORM
    return bfloat16(weights)


def pools():
    """A pool of values of each dtype, drawn once."""
    rng = np.random.default_rng(7)
    trits = rng.integers(0, 3, (PACKED_ROWS, 1 << 24), np.uint8)
    return {"BF16": bfloat16(rng.standard_normal(1 << 24) * 0.02),
            "U8": trits[0] | trits[1] << 2 | trits[2] << 4 | trits[3] << 6}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--shape", choices=SHAPES, default="llama-2-7b")
    parser.add_argument("--layers", type=int)
    options = parser.parse_args()
    config = dict(SHAPES[options.shape])
    config["num_hidden_layers"] = options.layers or config["num_hidden_layers"]
    options.directory.mkdir(parents=True, exist_ok=True)
    pool = pools()
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, dtype, shape in tensors(config):
        length = pool[dtype].itemsize * int(np.prod(shape))
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + length]}
        offset += length
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(options.directory / "model.safetensors", "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for index, (name, dtype, shape) in enumerate(tensors(config)):
            count = int(np.prod(shape))
            if len(shape) == 1:
                out.write((norm_weights(count) if "norm" in name else bfloat16(np.ones(count))).tobytes())
                continue
            values, start = pool[dtype], index * 1_000_003 % (1 << 23)
            while count > 0:
                piece = values[start : start + min(count, values.size - start)]
                out.write(piece.tobytes())
                count -= piece.size
                start = (start + 77_777) % (1 << 23)
    (options.directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    print(f"{options.directory}: {offset} bytes of weights")


if __name__ == "__main__":
    main()

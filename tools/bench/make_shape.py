#!/usr/bin/env python3
"""Writes a checkpoint of the shape of Llama-2-7B (or a part of its layers) with seeded random bfloat16 weights.

    make_shape.py DIRECTORY [--layers N]

Values are normal-like bytes drawn once and repeated at different offsets, so that a large file is made at the speed of
the disk; no two rows of one matrix are equal. Needs numpy and nothing else.
"""

import argparse
import json
import pathlib
import struct

import numpy as np

HIDDEN, INNER, VOCAB, HEADS, LAYERS = 4096, 11008, 32000, 32, 32


def tensors(layers):
    yield "model.embed_tokens.weight", (VOCAB, HIDDEN)
    for i in range(layers):
        p = f"model.layers.{i}."
        yield p + "input_layernorm.weight", (HIDDEN,)
        yield p + "mlp.down_proj.weight", (HIDDEN, INNER)
        yield p + "mlp.gate_proj.weight", (INNER, HIDDEN)
        yield p + "mlp.up_proj.weight", (INNER, HIDDEN)
        yield p + "post_attention_layernorm.weight", (HIDDEN,)
        for name in "kqvo":
            yield p + f"self_attn.{name}_proj.weight", (HIDDEN, HIDDEN)
    yield "model.norm.weight", (HIDDEN,)
    yield "lm_head.weight", (VOCAB, HIDDEN)


def bfloat16(values):
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--layers", type=int, default=LAYERS)
    options = parser.parse_args()
    options.directory.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    pool = bfloat16(rng.standard_normal(1 << 24) * 0.02)  # 32 MiB
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in tensors(options.layers):
        length = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, offset + length]}
        offset += length
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(options.directory / "model.safetensors", "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for index, (name, shape) in enumerate(tensors(options.layers)):
            count = int(np.prod(shape))
            if len(shape) == 1:
                out.write(bfloat16(np.ones(count)).tobytes())
                continue
            start = index * 1_000_003 % (1 << 23)
            while count > 0:
                piece = pool[start : start + min(count, pool.size - start)]
                out.write(piece.tobytes())
                count -= piece.size
                start = (start + 77_777) % (1 << 23)
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": INNER,
        "num_hidden_layers": options.layers, "num_attention_heads": HEADS, "num_key_value_heads": HEADS,
        "hidden_act": "silu", "vocab_size": VOCAB, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "max_position_embeddings": 4096, "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2,
        "torch_dtype": "bfloat16",
    }
    (options.directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    print(f"{options.directory}: {offset} bytes of weights")


if __name__ == "__main__":
    main()

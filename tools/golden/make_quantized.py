#!/usr/bin/env python3
"""Writes tests/fixtures/golden/quantized.json: what bitsandbytes makes of seeded matrices, as hashes of bytes.

The matrices are made by a linear congruential generator that the C++ test repeats, so that no matrix is stored.
"""
import json
import pathlib
import struct

import bitsandbytes.functional as F
import numpy as np
import torch

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests/fixtures/golden/quantized.json"
DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


def matrix(seed, count, spread):
    values = np.empty(count, dtype=np.float32)
    state = seed
    for i in range(count):
        total = 0
        for _ in range(4):
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            total += state >> 40
        # The sum of four 24-bit numbers, centred: exact in float32 up to the spread's rounding.
        values[i] = np.float32(np.float32(total - 2 * 2**24) / np.float32(2**24)) * np.float32(spread)
    return values


def fnv(data):
    h = 14695981039346656037
    for byte in data:
        h = ((h ^ byte) * 1099511628211) % 2**64
    return f"{h:016x}"


def raw(tensor):
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


def case(index):
    rng = np.random.default_rng(index)
    rows, cols = int(rng.integers(1, 41)), int(rng.integers(1, 200))
    if index % 3 == 0:
        cols = (cols + 63) // 64 * 64
    name = ["F32", "BF16", "F16"][index % 3 if index % 2 else (index // 2) % 3]
    kind = ["int8", "nf4", "fp4"][index // 3 % 3]
    spread = [0.02, 1.0, 3.5][index % 3]
    values = matrix(index + 1, rows * cols, spread)
    if index % 7 == 0:
        values[:cols] = 0  # a row of zeros, and blocks of zeros
    weight = torch.from_numpy(values).reshape(rows, cols).to(DTYPES[name])
    out = {"seed": index + 1, "rows": rows, "cols": cols, "dtype": name, "kind": kind, "spread": spread,
           "zero_row": index % 7 == 0}
    if kind == "int8":
        codes, scb, _ = F.int8_vectorwise_quant(weight.half())
        out |= {"codes": fnv(raw(codes)), "scales": fnv(raw(scb)),
                "values": fnv(raw(F.int8_vectorwise_dequant(codes, scb)))}
    else:
        packed, state = F.quantize_4bit(weight, quant_type=kind, blocksize=64, compress_statistics=False)
        values = F.dequantize_4bit(packed, state).to(DTYPES[name]) + 0.0  # -0 and 0 are one
        out |= {"codes": fnv(raw(packed)), "scales": fnv(raw(state.absmax)), "values": fnv(raw(values))}
    return out


def nested(index):
    """Double quantization: absmax as the file's own tables give it back."""
    count = 64 * (300 + 37 * index)
    weight = torch.from_numpy(matrix(1000 + index, count, 1.0)).reshape(-1, 64).to(torch.bfloat16)
    _, state = F.quantize_4bit(weight, quant_type="nf4", blocksize=64, compress_statistics=True)
    absmax = F.dequantize_blockwise(state.absmax, state.state2) + state.offset
    # The library looks codes up in bins; how far that is from the nearest code at most, in nested absmax.
    _, plain = F.quantize_4bit(weight, quant_type="nf4", blocksize=64, compress_statistics=False)
    centred = plain.absmax - state.offset
    size = state.state2.absmax.repeat_interleave(256)[: centred.numel()]
    code = state.state2.code
    nearest = code[(centred[:, None] / size[:, None] - code[None, :]).abs().argmin(dim=1)]
    found = code[state.absmax.reshape(-1).long()]
    return {"seed": 1000 + index, "rows": weight.shape[0], "cols": 64, "offset": float(state.offset),
            "codes_off": int((nearest != found).sum()), "furthest": float((nearest - found).abs().max()),
            "absmax": [struct.unpack("<I", struct.pack("<f", v))[0] for v in absmax.tolist()],
            "nested_absmax": state.state2.absmax.tolist(), "sum": float(absmax.double().sum())}


def main():
    data = {"versions": {"torch": torch.__version__, "bitsandbytes": __import__("bitsandbytes").__version__},
            "cases": [case(i) for i in range(240)], "nested": [nested(i) for i in range(4)]}
    OUT.write_text(json.dumps(data, separators=(",", ":")).replace("},{", "},\n{") + "\n")
    print(f"{OUT}: {len(data['cases'])} matrices, {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()

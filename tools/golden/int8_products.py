#!/usr/bin/env python3
"""Writes tests/fixtures/golden/int8_products.json: what bitsandbytes computes of seeded activations times seeded int8 weights.

The matrices come from the generator of make_quantized.py, so only results are stored: the activations' codes and scales as
hashes, the outlier columns, and the products as bits of float32.
"""

import json
import logging
import sys

import pins

pins.settle()

import bitsandbytes as bnb  # noqa: E402
import bitsandbytes.functional as F  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from make_quantized import DTYPES, fnv, matrix, raw  # noqa: E402

logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns at each product
OUT = pins.FIXTURES / "int8_products.json"
CASES = 72
# 0.1, 1.3 and 3.3 are no float16 numbers: the library compares with the nearest one.
THRESHOLDS = [6.0, 0.0, 3.3, 1.3, 0.1, 6.0, 2.0]
WIDE = {11: 576, 23: 1536, 35: 1100}  # of SmolLM2, and one whose codes fill whole blocks and a rest


def settings(index):
    rng = np.random.default_rng(1000 + index)
    tokens = [1, 2, 3, 7, 1, 13, 40][index % 7]
    cols = WIDE.get(index, int(rng.integers(1, 150)))
    case = {
        "seed": 10 * index + 7,
        "tokens": tokens,
        "rows": int(rng.integers(1, 80)) if tokens < 10 else int(rng.integers(1, 34)),
        "cols": cols,
        "dtype": list(DTYPES)[index % 3],
        "threshold": THRESHOLDS[index // 2 % len(THRESHOLDS)],
        "bias": bool(index % 2),
        "kind": ["even", "columns", "scattered", "zeros", "overflow"][index % 5],
    }
    return case


def activations(case):
    """Spread by one half; `columns`: some are 16 times as large; `scattered`: one of each token is; `zeros`: so is the first token;
    `overflow`: one is beyond what float16 holds."""
    tokens, cols, kind = case["tokens"], case["cols"], case["kind"]
    x = matrix(case["seed"], tokens * cols, 0.5).reshape(tokens, cols)
    if kind == "columns":
        x[:, 3::11] *= 16
    if kind == "scattered":
        for t in range(tokens):
            x[t, 37 * t % cols] *= 16
    if kind == "zeros":
        x[0] = 0
    if kind == "overflow" and case["dtype"] != "F16":
        x[tokens - 1, cols // 2] = 70000
    return torch.from_numpy(x).to(DTYPES[case["dtype"]])


def run(case):
    dtype = DTYPES[case["dtype"]]
    weight = torch.from_numpy(matrix(case["seed"] + 1, case["rows"] * case["cols"], 0.1)).reshape(case["rows"], case["cols"])
    bias = torch.from_numpy(matrix(case["seed"] + 2, case["rows"], 0.3)).to(dtype) if case["bias"] else None
    linear = bnb.nn.Linear8bitLt(
        case["cols"], case["rows"], case["bias"], has_fp16_weights=False, threshold=case["threshold"]
    )
    linear.weight = bnb.nn.Int8Params(weight.to(dtype), requires_grad=False, has_fp16_weights=False)
    linear = linear.to("cpu").eval()
    linear.weight = linear.weight.to("cpu")
    if bias is not None:
        linear.bias.data = bias
    x = activations(case)
    codes, scales, columns = F.int8_vectorwise_quant(x.half(), threshold=case["threshold"])
    with torch.no_grad():
        y = linear(x).float()
    return {
        "codes": fnv(raw(codes)),
        "scales": fnv(raw(scales)),
        "columns": [] if columns is None else columns.tolist(),
        "y": y.contiguous().view(torch.int32).reshape(-1).tolist(),
    }


def main():
    cases = [settings(i) for i in range(CASES)]
    for case in cases:
        case |= run(case)
    OUT.write_text(json.dumps({"cases": cases}, separators=(",", ":")).replace("},{", "},\n{") + "\n")
    with_columns = sum(bool(case["columns"]) for case in cases)
    print(f"{OUT}: {len(cases)} products, {with_columns} with outlier columns, {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    sys.exit(main())

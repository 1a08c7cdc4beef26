"""What transformers makes of ternary weights and their activations: tests/fixtures/golden/ternary.json.

    ternary_vectors.py

Packed bytes, full weights rounded by the mean of their magnitudes, activations rounded to int8 steps. Bit patterns are
written as integers. Knows nothing of models.
"""

import json
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import pins


def bits(tensor):
    import torch

    kinds = {torch.float32: (torch.int32, 0xFFFFFFFF), torch.bfloat16: (torch.int16, 0xFFFF)}
    view, mask = kinds[tensor.dtype]
    return [value & mask for value in tensor.contiguous().flatten().view(view).tolist()]


def main():
    pins.settle()
    os.environ["TORCHDYNAMO_DISABLE"] = "0"  # compiled, as users run it: eager rounds bfloat16 factors at every step
    import torch
    from transformers.integrations.bitnet import ActQuant, BitLinear, WeightQuant, pack_weights

    generator = torch.Generator().manual_seed(11)

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    values = torch.randint(-1, 2, (12, 7), generator=generator).float()
    out = {"packed": {"rows": 12, "cols": 7, "values": values.int().flatten().tolist()}, "weights": [], "rows": []}
    out["packed"]["bytes"] = pack_weights(values.clone()).flatten().tolist()
    ties = torch.tensor([[127.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5], [1.0, 0.25, -0.25, 0.75, -0.75, 0.5, -0.5, 0.0]])
    for dtype in (torch.float32, torch.bfloat16):
        for spread in (0.02, 1.0, 1e-7):
            weight = (normal(8, 33) * spread).to(dtype)
            out["weights"].append({"dtype": str(dtype)[6:], "weight": bits(weight), "rounded": bits(WeightQuant.apply(weight))})
        for row in [*ties, torch.zeros(8), torch.full((8,), 1e-6), *(normal(9, 29) * torch.logspace(-4, 4, 9)[:, None])]:
            row = row.to(dtype)[None]
            codes, factor = BitLinear.activation_quant(None, row)
            out["rows"].append({
                "dtype": str(dtype)[6:], "row": bits(row), "rounded": bits(ActQuant.apply(row)),
                "codes": codes[0].tolist(), "factor": bits(factor)[0],
            })
    file = pins.FIXTURES / "ternary.json"
    file.write_text(json.dumps(out, separators=(",", ":")) + "\n")
    print(file, file.stat().st_size, "bytes")


if __name__ == "__main__":
    main()

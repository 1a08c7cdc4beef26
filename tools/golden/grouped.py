#!/usr/bin/env python3
"""Makes tests/fixtures/golden/llama-gptq-* and llama-awq: tiny checkpoints in the layouts of GPTQ and AWQ.

    grouped.py [FOLDER ...]

The weights are rounded to codes here, what they mean is put back into a plain model, and that model is what transformers
computes the record with; then the plain tensors are replaced by packed ones. Knows no tool that makes such files.
"""

import dataclasses
import json
import pathlib
import shutil
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import pins

pins.settle()

import bnb  # noqa: E402
import record  # noqa: E402
import tiny  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from variants import Variant  # noqa: E402

AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]


@dataclasses.dataclass
class Layout:
    method: str = "gptq"
    bits: int = 4
    group: int = 32  # -1: all columns
    symmetric: bool = False
    act_order: bool = False
    version: str = "gptq"  # or gptq_v2


CASES = {
    "gptq": Layout(),
    "gptq-act-order": Layout(act_order=True, symmetric=True),
    "gptq-8bit-column": Layout(bits=8, group=-1),
    "gptq-v2-2bit": Layout(bits=2, group=16, version="gptq_v2"),
    "awq": Layout(method="awq", group=32),
}


def round_weight(weight, layout, generator):
    """Codes [K, N], zero points [G, N], scales [G, N] in float16, the group of each column, and the meant values."""
    columns = weight.t().float()
    k = columns.shape[0]
    size = k if layout.group == -1 else layout.group
    group = torch.arange(k) // size
    if layout.act_order:
        group = group[torch.randperm(k, generator=generator)]
    highest = 2**layout.bits - 1
    codes = torch.zeros_like(columns, dtype=torch.int64)
    zeros, scales = [], []
    for g in range(int(group.max()) + 1):
        rows = columns[group == g]
        low, high = rows.amin(0).clamp(max=0), rows.amax(0).clamp(min=0)
        if layout.symmetric:
            high = torch.maximum(high, -low)
            low = -high
        scale = ((high - low) / highest).half().float().clamp(min=1e-4)
        zero = (-low / scale).round().clamp(1, highest)
        codes[group == g] = ((rows / scale).round() + zero).clamp(0, highest).long()
        zeros.append(zero.long())
        scales.append(scale.half())
    zeros, scales = torch.stack(zeros), torch.stack(scales)
    meant = (codes - zeros[group]).float() * scales[group].float()
    return codes, zeros, scales, group, meant.t().contiguous()


def packed(values, bits, order=None):
    """int32 words of [R, C]: along the rows, or with an order along the columns."""
    per_word = 32 // bits
    if order is None:
        lanes = values.reshape(values.shape[0] // per_word, per_word, values.shape[1]).transpose(0, 1)
    else:
        lanes = values.reshape(values.shape[0], values.shape[1] // per_word, per_word).permute(2, 0, 1)[order]
    word = sum(lane << (bits * i) for i, lane in enumerate(lanes))
    return torch.where(word >= 2**31, word - 2**32, word).to(torch.int32).contiguous()


def tensors_of(weight, layout, generator):
    codes, zeros, scales, group, meant = round_weight(weight, layout, generator)
    plain = list(range(32 // layout.bits))
    if layout.method == "awq":
        made = {"qweight": packed(codes, 4, AWQ_ORDER), "qzeros": packed(zeros, 4, AWQ_ORDER), "scales": scales}
    else:
        stored = zeros - 1 if layout.version == "gptq" else zeros
        made = {
            "qweight": packed(codes, layout.bits),
            "qzeros": packed(stored, layout.bits, plain),
            "scales": scales,
            "g_idx": group.to(torch.int32),
        }
    return made, meant


def settings(layout):
    common = {"bits": layout.bits, "group_size": layout.group, "quant_method": layout.method}
    if layout.method == "awq":
        return common | {"version": "gemm", "zero_point": True}
    return common | {"desc_act": layout.act_order, "sym": layout.symmetric, "checkpoint_format": layout.version}


def make(name, layout):
    config = dict(bnb.BASE, hidden_size=64, intermediate_size=96)
    variant = Variant("llama", name, config, stored="float32", dtypes=())
    target = pins.FIXTURES / variant.folder
    for seed in range(1, 60):
        generator = torch.Generator().manual_seed(seed)
        with tempfile.TemporaryDirectory() as scratch:
            directory = pathlib.Path(scratch) / "model"
            tiny.write(directory, variant, seed)
            dense, stored = load_file(directory / "model.safetensors"), {}
            for key in [k for k in dense if k.endswith("_proj.weight")]:
                made, dense[key] = tensors_of(dense[key], layout, generator)
                stored |= {key.removesuffix("weight") + part: tensor for part, tensor in made.items()}
            save_file(dense, directory / "model.safetensors", metadata={"format": "pt"})
            try:
                record.record(directory, variant, seed)
            except record.NotUsable as why:
                print(f"  {variant.folder} seed {seed}: {why}", file=sys.stderr)
                continue
            stored |= {k: v for k, v in dense.items() if not k.endswith("_proj.weight")}
            save_file(stored, directory / "model.safetensors", metadata={"format": "pt"})
            (directory / "model.safetensors").chmod(0o644)
            file = directory / "config.json"
            written = json.loads(file.read_text()) | {"quantization_config": settings(layout)}
            file.write_text(json.dumps(written, indent=2) + "\n")
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(directory, target)
        print(f"{variant.folder}: seed {seed}, {sum(f.stat().st_size for f in target.iterdir())} bytes")
        return
    sys.exit(f"{variant.folder}: no seed is free of near ties")


def main():
    for name, layout in CASES.items():
        if not sys.argv[1:] or f"llama-{name}" in sys.argv[1:]:
            make(name, layout)


if __name__ == "__main__":
    main()

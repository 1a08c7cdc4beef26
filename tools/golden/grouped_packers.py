#!/usr/bin/env python3
"""Are the llama-gptq-* and llama-awq fixtures packed as the tools pack that make such checkpoints?

    grouped_packers.py --auto-gptq DIR --autoawq DIR

DIR: auto_gptq 0.7.1 (the wheel, unpacked) and autoawq 0.2.9 (the source archive, unpacked); neither is imported as a package,
because that would need CUDA extensions: their pure torch packers are loaded file by file. Each layout of grouped.py, on matrices of
several shapes: the codes that grouped.py rounds to, packed by both, must be the same words. Exit code 1 on the first difference.
"""

import argparse
import importlib.util
import pathlib
import sys
import types

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import grouped  # noqa: E402
import torch  # noqa: E402

SHAPES = [(64, 64), (96, 64), (64, 192), (352, 128)]


def package(name, directory):
    """A package whose own __init__ is not run."""
    module = types.ModuleType(name)
    module.__path__ = [str(directory)]
    sys.modules[name] = module


def load(name, file):
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def gptq_packer(root):
    package("auto_gptq", root / "auto_gptq")
    module = load("auto_gptq.qlinear_cuda", root / "auto_gptq/nn_modules/qlinear/qlinear_cuda.py")

    def pack(linear, layout, zeros, scales, group):
        size = linear.in_features if layout.group == -1 else layout.group
        made = module.QuantLinear(layout.bits, size, linear.in_features, linear.out_features, False, weight_dtype=torch.float32)
        made.pack(linear, scales.t().float(), zeros.t().float(), group.to(torch.int32))
        return {name: getattr(made, name) for name in ("qweight", "qzeros", "g_idx")}

    return pack


def awq_packer(root):
    for name in ("awq", "awq.utils", "awq.modules"):
        package(name, root / name.replace(".", "/"))
    module = load("awq.gemm", root / "awq/modules/linear/gemm.py")

    def pack(linear, layout, zeros, scales, group):
        made = module.WQLinear_GEMM.from_linear(linear, layout.bits, layout.group, False, scales.float(), zeros.float())
        return {name: getattr(made, name) for name in ("qweight", "qzeros")}

    return pack


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--auto-gptq", type=pathlib.Path, required=True)
    parser.add_argument("--autoawq", type=pathlib.Path, required=True)
    given = parser.parse_args()
    packers = {"gptq": gptq_packer(given.auto_gptq), "awq": awq_packer(given.autoawq)}
    for name, layout in grouped.CASES.items():
        words = 0
        for seed, (rows, columns) in enumerate(SHAPES):
            generator = torch.Generator().manual_seed(seed)
            weight = torch.randn(rows, columns, generator=generator)
            made, meant = grouped.tensors_of(weight, layout, torch.Generator().manual_seed(seed))
            _, zeros, scales, group, _ = grouped.round_weight(weight, layout, torch.Generator().manual_seed(seed))
            linear = torch.nn.Linear(columns, rows, bias=False)
            linear.weight.data = meant
            theirs = packers[layout.method](linear, layout, zeros, scales, group)
            if layout.version == "gptq_v2":  # as gptqmodel turns the older version into it: one more in each field
                theirs["qzeros"] += sum(1 << (layout.bits * i) for i in range(32 // layout.bits))
            for part, tensor in theirs.items():
                if not torch.equal(tensor, made[part]):
                    sys.exit(f"{name} {rows}x{columns}: {part} differs")
                words += tensor.numel()
        print(f"{name}: {len(SHAPES)} matrices, {words} words equal ({', '.join(theirs)})")


if __name__ == "__main__":
    main()

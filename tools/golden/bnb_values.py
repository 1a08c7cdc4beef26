#!/usr/bin/env python3
"""Writes tests/fixtures/golden/bnb_values.json: what bitsandbytes holds of quantized checkpoints, as hashes of bytes.

`loaded`: every dequantized weight after transformers has loaded a bnb fixture. `written`: every tensor that
save_pretrained writes after quantizing a plain fixture, and for nested scales the values that they stand for.
"""

import json
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import pins

pins.settle()

import bitsandbytes.functional as F  # noqa: E402
import torch  # noqa: E402
from bitsandbytes.nn import Linear4bit, Linear8bitLt  # noqa: E402
from safetensors import safe_open  # noqa: E402
from transformers import AutoModelForCausalLM, BitsAndBytesConfig  # noqa: E402

SOURCES = {"llama-stored-bf16": "bfloat16", "phi3-full": "float32", "llama-bias": "float32"}
SETTINGS = {
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    "fp4": {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"},
    "nf4-nested": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
    "int8": {"load_in_8bit": True},
}


def fnv(tensor):
    data = (tensor + 0.0 if tensor.is_floating_point() else tensor).contiguous().reshape(-1)  # -0 and 0 are one
    h = 14695981039346656037
    for byte in data.view(torch.uint8).numpy().tobytes():
        h = ((h ^ byte) * 1099511628211) % 2**64
    return f"{h:016x}"


def values_of(module):
    if isinstance(module, Linear8bitLt):
        return F.int8_vectorwise_dequant(module.weight.data, module.weight.SCB)
    state = module.weight.quant_state
    state.dtype = module.compute_dtype if state.shape[1] % 64 else torch.float32
    return F.dequantize_4bit(module.weight.data, state).float()


def loaded(directory):
    model = AutoModelForCausalLM.from_pretrained(directory, dtype="auto")
    return {
        name: fnv(values_of(module))
        for name, module in model.named_modules()
        if isinstance(module, (Linear4bit, Linear8bitLt))
    }


def written(directory, dtype, settings):
    model = AutoModelForCausalLM.from_pretrained(
        directory, dtype=getattr(torch, dtype), quantization_config=BitsAndBytesConfig(**settings)
    )
    scales = {
        name + ".weight": F.dequantize_blockwise(m.weight.quant_state.absmax, m.weight.quant_state.state2)
        + m.weight.quant_state.offset
        for name, m in model.named_modules()
        if isinstance(m, Linear4bit) and m.weight.quant_state.nested
    }
    with tempfile.TemporaryDirectory() as scratch:
        model.save_pretrained(scratch)
        with safe_open(f"{scratch}/model.safetensors", "pt") as file:
            hashes = {name: fnv(file.get_tensor(name)) for name in sorted(file.keys())}
        config = json.loads(pathlib.Path(scratch, "config.json").read_text())["quantization_config"]
    return {
        "tensors": hashes,
        "config": config,
        "scales": {name: [float(f"{v:.9g}") for v in values.tolist()[:8]] for name, values in scales.items()},
    }


def main():
    data = {
        "loaded": {path.name: loaded(path) for path in sorted(pins.FIXTURES.glob("llama-bnb-*"))},
        "written": {
            source: {"dtype": dtype} | {name: written(pins.FIXTURES / source, dtype, s) for name, s in SETTINGS.items()}
            for source, dtype in SOURCES.items()
        },
    }
    out = pins.FIXTURES / "bnb_values.json"
    out.write_text(json.dumps(data, separators=(",", ":"), sort_keys=True).replace("},", "},\n") + "\n")
    print(f"{out}: {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()

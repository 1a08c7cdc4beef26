"""Writes tests/fixtures/safetensors: a file by the reference writer, which ours must reproduce byte for byte."""
import pathlib

import numpy as np
from safetensors.numpy import save_file

out = pathlib.Path(__file__).resolve().parents[2] / "tests" / "fixtures" / "safetensors"
out.mkdir(parents=True, exist_ok=True)
save_file(
    {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b.weight": np.arange(4, dtype=np.float16) / 4,
        "scalar": np.array(7, dtype=np.int64),
        "empty": np.zeros((0, 5), dtype=np.float32),
        "größe 😀 \"q\"": np.arange(3, dtype=np.uint8),
    },
    out / "reference.safetensors",
    metadata={"format": "pt"},
)

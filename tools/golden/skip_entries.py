#!/usr/bin/env python3
"""Writes tests/fixtures/golden/skip_entries.json: which skip entries name which modules, by transformers' own rule."""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import pins

pins.check()

from transformers.quantizers.quantizers_utils import should_convert_module  # noqa: E402

MODULES = [
    "lm_head", "model.embed_tokens", "model.layers.1.self_attn.q_proj", "model.layers.1.mlp.down_proj",
    "model.layers.10.self_attn.q_proj", "model.layers.10.mlp.gate_proj", "model.layers.19.self_attn.o_proj",
    "transformer.h.3.mlp.fc1", "model.decoder.layers.23.fc1", "a", "model.layers.1.mlp.gate", "x.gate_proj.y",
]
ENTRIES = [
    "model.layers.1", "model.layers.1.", "self_attn", "q_proj", "head", "lm_head", "fc1", "layer.*", "model.layers.*",
    "model.layers.1.*", r"model\.layers\.1", r"model\.layers\.\d+\.mlp", r"model\.layers\.[0-4]\.", "mlp.gate", "",
    ".*gate", r".*\.mlp", "model.layers.(1|19)", "model.layers.(?:1|10)", "model.layers.1[0-9]", r"model\.layers\.1\d",
    "model.layers.1?0", "model.layers.1{2}", "model.layers.1{1,2}", r"(model|transformer)\.\w+", "^model", "model$",
    "lm_head$", r".*_proj$", "a|b", "[^m].*", r"\w+", "model.layers.1*?0", "model", "mode", "model.layers.1.mlp.gate",
    "x.gate", "()", "(a*)*", "model{", "model.layers.{2}", "[]a]", "[a-]", r"[\w.]+", "down_proj", "e",
]


def main():
    out = pathlib.Path(__file__).resolve().parents[2] / "tests/fixtures/golden/skip_entries.json"
    data = {entry: [m for m in MODULES if not should_convert_module(m, [entry])] for entry in ENTRIES}
    text = json.dumps({"modules": MODULES, "named": data}, indent=0)
    out.write_text(text + "\n")
    print(f"{out}: {len(data)} entries")


if __name__ == "__main__":
    main()

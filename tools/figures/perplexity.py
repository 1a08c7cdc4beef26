#!/usr/bin/env python3
"""The perplexity table of docs/quantization.md: ours in each format beside the reference.

    perplexity.py RHAPSODE CHECKPOINT [--draws N]

CHECKPOINT: SmolLM2-135M-Instruct in float32, as ./dev test real imports it. Ours is measured now, with `numerics: hf-exact`; the
reference is the record in tests/fixtures/golden/smollm2, made by transformers with bitsandbytes (./dev golden smollm2 and
smollm2_quantized). Exit code 1 where a row is further apart than its noise.

--draws N (needs the judges' Python: ./dev setup all) asks whether int8 is biased: N checkpoints whose embedding is moved by a last bit
or so, each measured by both in the same run. Last bits flip codes, so single figures scatter by some 1e-3; their means must not differ
by more than the standard error allows.
"""

import argparse
import json
import logging
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
RECORDS = ROOT / "tests/fixtures/golden/smollm2"
TEXT = ROOT / "tests/fixtures/text/harbour.txt"
WINDOW = 256
FOUR = {"bnb_4bit_compute_dtype": "float32"}
# Row: its record, keys of the entry, how far apart it may be (None: int8 is held to what last bits give the reference itself).
ROWS = {
    "float32": ("float32", {}, 1e-5),
    "bfloat16": ("bfloat16", {"torch_dtype": "bfloat16"}, 5e-3),
    "8bit": ("int8", {"quantization": "8bit"}, None),
    "NF4": ("nf4", {"quantization": "4bit", "quantization_config": FOUR | {"bnb_4bit_use_double_quant": False}}, 1e-5),
    "NF4, double quantization": ("nf4-nested", {"quantization": "4bit", "quantization_config": FOUR}, 2e-3),
    "FP4": (
        "fp4",
        {"quantization": "4bit", "quantization_config": FOUR | {"bnb_4bit_use_double_quant": False, "bnb_4bit_quant_type": "fp4"}},
        1e-5,
    ),
    "float32, int8 KV cache": ("float32", {"kv_cache_dtype": "int8"}, 2e-2),
    "bfloat16, int8 KV cache": ("bfloat16", {"torch_dtype": "bfloat16", "kv_cache_dtype": "int8"}, 2e-2),
}


def references():
    """Record -> mean negative log-likelihood; and the span that last bits give int8."""
    quantized = json.loads((RECORDS / "quantized.json").read_text())
    plain = json.loads((RECORDS / "golden.json").read_text())["perplexity"]["windows"]
    nll = {name: entry["perplexity"]["nll"] for name, entry in quantized.items() if "perplexity" in entry}
    nll["float32"] = next(w["nll"] for w in plain if w["window"] == w["stride"] == WINDOW)
    return nll, quantized["int8"]["last_bits"] + [nll["int8"]]


def ours(binary, checkpoint, keys, scratch):
    entry = {"type": "huggingface", "model_id": str(checkpoint), "torch_dtype": "float32", "numerics": "hf-exact"} | keys
    config = pathlib.Path(scratch, "ppl.yaml")
    config.write_text(json.dumps({"generator": {"active_model": "m", "models": {"m": entry}}}))
    command = [binary, "ppl", "-c", config, "--text", TEXT, "--window", WINDOW, "--stride", WINDOW, "--json", "-q"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stdout + done.stderr)
    return json.loads(done.stdout)["nll"]


def table(binary, checkpoint, scratch):
    reference, span = references()
    failed = False
    print(f"{'':26} {'ours':>9} {'reference':>10}      apart")
    for row, (record, keys, noise) in ROWS.items():
        found, expected = ours(binary, checkpoint, keys, scratch), reference[record]
        right = min(span) <= found <= max(span) if noise is None else abs(found - expected) <= noise
        failed |= not right
        held = f"last bits give {min(span):.6f} to {max(span):.6f}" if noise is None else f"held to {noise:g}"
        print(f"{row:26} {found:9.6f} {expected:10.6f} {found - expected:+10.1e}   {held}{'' if right else '  TOO FAR'}", flush=True)
    return failed


def disturbed(checkpoint, seed, scratch):
    """A copy of the checkpoint whose embedding is multiplied by 1 + 1e-7 times noise."""
    import torch
    from safetensors.torch import load_file, save_file

    copy = pathlib.Path(scratch, f"draw{seed}")
    shutil.copytree(checkpoint, copy)
    tensors = load_file(copy / "model.safetensors")
    name = "model.embed_tokens.weight"
    noise = torch.randn(tensors[name].shape, generator=torch.Generator().manual_seed(seed))
    tensors[name] = tensors[name] * (1 + 1e-7 * noise)
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    return copy


def draws(binary, checkpoint, count, scratch):
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    sys.path.insert(0, str(ROOT / "tools/golden"))
    import smollm2
    import smollm2_quantized
    from transformers import AutoTokenizer

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    ids = AutoTokenizer.from_pretrained(checkpoint).backend_tokenizer.encode(TEXT.read_text(), add_special_tokens=False).ids
    pairs = []
    for seed in range(count):
        copy = disturbed(checkpoint, seed, scratch)
        model = smollm2_quantized.load(copy, smollm2_quantized.CASES["int8"])
        pairs.append((ours(binary, copy, ROWS["8bit"][1], scratch), smollm2.perplexity(model, ids, WINDOW, WINDOW)["nll"]))
        print(f"draw {seed}: ours {pairs[-1][0]:.6f}, reference {pairs[-1][1]:.6f}", flush=True)
        shutil.rmtree(copy)
    mine, theirs = ([pair[i] for pair in pairs] for i in range(2))
    error = (statistics.variance(mine) / count + statistics.variance(theirs) / count) ** 0.5
    apart = statistics.mean(mine) - statistics.mean(theirs)
    print(f"means: ours {statistics.mean(mine):.6f}, reference {statistics.mean(theirs):.6f}, apart {apart:+.2e}, standard error {error:.2e}")
    return abs(apart) > 3 * error


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("--draws", type=int, default=0)
    given = parser.parse_args()
    checkpoint = given.checkpoint.resolve()
    with tempfile.TemporaryDirectory() as scratch:
        failed = table(given.binary, checkpoint, scratch) if given.draws == 0 else draws(given.binary, checkpoint, given.draws, scratch)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

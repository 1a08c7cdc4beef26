#!/usr/bin/env python3
"""The perplexity table of docs/quantization.md: ours in each format beside the reference.

    perplexity.py RHAPSODE CHECKPOINT [--draws N]

CHECKPOINT: SmolLM2-135M-Instruct in float32, as ./dev test real imports it. Ours is measured now, with `numerics: hf-exact`; the
reference is the record in tests/fixtures/golden/smollm2, made by transformers with bitsandbytes (./dev golden smollm2 and
smollm2_quantized). Exit code 1 where a row is further apart than its noise.

--draws N asks whether int8 is biased. Last bits flip codes, so single figures scatter by some 1e-3, the reference's own too, whose
record holds eight that it gave as last bits fell. N checkpoints whose embedding is moved by a last bit or so give ours; the two means must
not differ by more than three standard errors. Needs numpy.
"""

import argparse
import json
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
    import numpy

    copy = pathlib.Path(scratch, f"draw{seed}")
    shutil.copytree(checkpoint, copy)
    file = copy / "model.safetensors"
    with open(file, "rb") as opened:
        header_bytes = int.from_bytes(opened.read(8), "little")
        entry = json.loads(opened.read(header_bytes))["model.embed_tokens.weight"]
    if entry["dtype"] != "F32":
        sys.exit(f"{file}: the embedding is {entry['dtype']}, and must be F32")
    begin, end = entry["data_offsets"]
    values = numpy.memmap(file, numpy.float32, "r+", 8 + header_bytes + begin, ((end - begin) // 4,))
    values *= 1 + 1e-7 * numpy.random.default_rng(seed).standard_normal(values.shape)
    values.flush()
    return copy


def draws(binary, checkpoint, count, scratch):
    theirs, mine = references()[1][:-1], []
    for seed in range(count):
        copy = disturbed(checkpoint, seed, scratch)
        mine.append(ours(binary, copy, ROWS["8bit"][1], scratch))
        print(f"draw {seed}: {mine[-1]:.6f}", flush=True)
        shutil.rmtree(copy)
    error = (statistics.variance(mine) / len(mine) + statistics.variance(theirs) / len(theirs)) ** 0.5
    apart = statistics.mean(mine) - statistics.mean(theirs)
    for name, values in (("ours", mine), ("reference", theirs)):
        print(f"{name:9} {len(values):3} draws: mean {statistics.mean(values):.6f}, from {min(values):.6f} to {max(values):.6f}")
    print(f"apart {apart:+.2e}, standard error {error:.2e}")
    return abs(apart) > 3 * error


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("--draws", type=int, default=0)
    given = parser.parse_args()
    if given.draws < 0 or given.draws == 1:
        parser.error("--draws is 2 or more: the scatter is measured")
    checkpoint = given.checkpoint.resolve()
    with tempfile.TemporaryDirectory() as scratch:
        failed = table(given.binary, checkpoint, scratch) if given.draws == 0 else draws(given.binary, checkpoint, given.draws, scratch)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

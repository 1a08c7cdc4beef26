#!/usr/bin/env python3
"""Speed of a model whose blocks lie on cpu or disk, beside the bandwidth of memory and of the file, measured in the same run.

Owns the placements and the arithmetic: bytes brought for a token, times tokens a second, as a share of what can be read. Tokens a second
and the bandwidth of memory are the program's own (bench --json), that of the file is measured here, with and without the page cache.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time

FORMATS = {"bfloat16": ["torch_dtype=bfloat16"], "8bit": ["quantization=8bit"], "4bit": ["quantization=4bit"]}
PLACES = {
    "device": 'device_map={"": 0}',
    "cpu": 'device_map={"": 0, "model.layers": cpu}',
    "disk": 'device_map={"": 0, "model.layers": disk}',
}
KEPT = "disk, kept"  # the same with a packed cache, of what is quantized


def file_gb_per_s(path, cached):
    """Read once from the start, in pieces of 8 MiB."""
    fd = os.open(path, os.O_RDONLY)
    try:
        if not cached:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        start, done = time.monotonic(), 0
        while piece := os.pread(fd, 8 << 20, done):
            done += len(piece)
        return done / (time.monotonic() - start) / 1e9
    finally:
        os.close(fd)


def program(options, config, command, sets):
    arguments = [options.binary, command, "-c", config, "--machine", options.machine, "--json", "--quiet"]
    arguments += [part for value in sets for part in ("--set", value)]
    if command == "bench":
        arguments += ["--prompt-tokens", "16", "--new-tokens", str(options.new), "--rounds", "3"]
    done = subprocess.run(arguments, capture_output=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(arguments)} ended with {done.returncode}: {done.stderr.decode()}{done.stdout.decode()}")
    return json.loads(done.stdout)


def bytes_of(plan, name):
    return sum(device["weights_bytes"] + device["quant_metadata_bytes"] for device in plan["devices"] if device["name"] == name)


def layer_bytes_in(path):
    """Of the blocks' tensors in the checkpoint: what is read for a pass where they lie on disk."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return sum(entry["data_offsets"][1] - entry["data_offsets"][0] for name, entry in header.items() if ".layers." in name)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default="build/release/rhapsode")
    parser.add_argument("--model", required=True, help="a checkpoint directory, such as the one that ./dev demo fetches")
    parser.add_argument("--machine", default="4GB,cpu=4GB")
    parser.add_argument("--new", type=int, default=16)
    options = parser.parse_args()
    weights = os.path.join(options.model, "model.safetensors")
    fresh, cached = file_gb_per_s(weights, False), file_gb_per_s(weights, True)
    print(f"the file: {fresh:.2f} GB/s from the disk, {cached:.2f} GB/s from the page cache (one thread)")
    with tempfile.TemporaryDirectory() as scratch:
        config = os.path.join(scratch, "rag.yaml")
        with open(config, "w") as file:
            file.write(f"generator:\n  active_model: m\n  models:\n    m:\n      model_id: {os.path.abspath(options.model)}\n")
        for name, sets in FORMATS.items():
            for place in PLACES if name == "bfloat16" else [*PLACES, KEPT]:
                setting = [PLACES[place.split(",")[0]]]
                if place == KEPT:
                    setting.append(f"packed_cache={scratch}/packed")
                plan = program(options, config, "plan", sets + setting)
                bench = program(options, config, "bench", sets + setting)
                brought = layer_bytes_in(weights) if place == "disk" else bytes_of(plan, "disk" if place == KEPT else "cpu")
                rate = brought * bench["decode_tokens_per_s"] / 1e9
                of = {"device": "", "cpu": f"{bench['roofline']['read_gb_per_s']['median']:.1f} GB/s of memory"}.get(
                    place, f"{cached:.1f} GB/s of the file")
                print(f"{name:9} blocks on {place:11}{bench['decode_tokens_per_s']:8.2f} tokens/s"
                      + (f", {brought / 1e6:.0f} MB brought a token = {rate:.2f} GB/s of {of}" if of else ""), flush=True)
        print(f"{bench['cpu']}, {bench['threads']} threads, {bench['isa']} kernels")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Measures loading a checkpoint of a given shape in 8 and 4 bits: time, resident weights, peak memory against the plan.

    load_shape.py RHAPSODE CHECKPOINT [--python JUDGES [--judge-checkpoint DIRECTORY]] [--cache DIRECTORY]
                  [--formats int8,nf4,cached,cold,whole]

CHECKPOINT comes from make_shape.py, or is any model. With --python (an interpreter that has transformers, accelerate and
bitsandbytes) the same checkpoint is loaded there too; --judge-checkpoint names a smaller one of the same shape for it, and its
time is then scaled by the bytes of the weights, which the output says. `nf4` is 4bit with double quantization; `cached` is its second
start from a packed cache, whose first start writes it; `cold` is nf4 with the checkpoint out of the page cache; `whole` is nf4 with
`low_cpu_mem_usage: false`.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

JUDGE = """
import json, resource, sys, time
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
torch.set_num_threads(int(sys.argv[3]))
eight = sys.argv[2] == "int8"
config = BitsAndBytesConfig(load_in_8bit=True) if eight else BitsAndBytesConfig(
    load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.bfloat16)
start = time.time()
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16, quantization_config=config, device_map="cpu")
seconds = time.time() - start
print(json.dumps({"seconds": seconds, "weights": model.get_memory_footprint(),
                  "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
"""


# What the guide says of a model of 7 billion parameters, in GB of weights.
GUIDE = {"int8": 7.0, "nf4": 3.5}
GUIDE_SHAPE = {"hidden_size": 4096, "num_hidden_layers": 32, "vocab_size": 32000}


def forget(checkpoint):
    """Its files out of the page cache."""
    for file in checkpoint.glob("*.safetensors"):
        with open(file, "rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def write_config(directory, checkpoint, quantization, *keys):
    file = pathlib.Path(directory) / "shape.yaml"
    file.write_text(
        "generator:\n  active_model: shape\n  models:\n    shape:\n      type: huggingface\n"
        f'      model_id: "{checkpoint}"\n      torch_dtype: bfloat16\n      quantization: "{quantization}"\n'
        "      do_sample: false\n      max_tokens: 1\n      max_context: 64\n" + "".join(f"      {key}\n" for key in keys)
    )
    return file


def run(rhapsode, config, cache, threads):
    command = [rhapsode, "run", "-c", str(config), "--ids", "1,2,3", "--json", "-q", "--threads", str(threads)]
    if cache:
        command += ["--packed-cache", str(cache)]
    start = time.time()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stdout + done.stderr)
    result, plan = json.loads(done.stdout), plan_of(rhapsode, config)
    memory = result["memory"]
    return {
        "load_s": result["timings"]["load_ms"] / 1000,
        "whole_s": time.time() - start,
        "weights": plan["weights_bytes"] + plan["quant_metadata_bytes"],
        "plan": memory["plan_bytes"],
        "peak": memory["peak_rss_bytes"],
    }


def plan_of(rhapsode, config):
    done = subprocess.run([rhapsode, "plan", "-c", str(config), "--json"], capture_output=True, text=True)
    return json.loads(done.stdout)["devices"][0]


def show(name, figures):
    print(
        f"{name:24} load {figures['load_s']:7.2f} s   whole run {figures['whole_s']:7.2f} s   weights "
        f"{figures['weights'] / 1e9:6.3f} GB   peak {figures['peak'] / 1e9:6.3f} GB   peak / plan "
        f"{figures['peak'] / figures['plan']:.3f}",
        flush=True,
    )


def weight_bytes(checkpoint):
    return sum(file.stat().st_size for file in checkpoint.glob("*.safetensors"))


def judge(python, whole, checkpoint, kind, threads):
    """`checkpoint` may be a smaller one than `whole`."""
    done = subprocess.run(
        [python, "-c", JUDGE, str(checkpoint), kind, str(threads)], capture_output=True, text=True
    )
    if done.returncode != 0:
        return print(f"transformers {kind}: {done.stderr.strip().splitlines()[-1]}", flush=True)
    figures = json.loads(done.stdout.strip().splitlines()[-1])
    scale = weight_bytes(whole) / weight_bytes(checkpoint)
    if scale > 1.001:
        seconds = figures["seconds"]
        print(f"{'transformers ' + kind:24} load {seconds:7.2f} s of a part, {scale:.2f} times as long for the whole: {seconds * scale:.1f} s", flush=True)
        return
    print(
        f"{'transformers ' + kind:24} load {figures['seconds']:7.2f} s   {'':21} weights "
        f"{figures['weights'] / 1e9:6.3f} GB   peak {figures['peak'] / 1e9:6.3f} GB",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rhapsode")
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("--python")
    parser.add_argument("--judge-checkpoint", type=pathlib.Path)
    parser.add_argument("--cache", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--formats", default="int8,nf4,cached")
    options = parser.parse_args()
    checkpoint = options.checkpoint.resolve()
    wanted = options.formats.split(",")
    with tempfile.TemporaryDirectory() as scratch:
        cache = options.cache or pathlib.Path(scratch) / "packed"
        for kind, key in (("int8", "8bit"), ("nf4", "4bit")):
            if kind in wanted:
                config = write_config(scratch, checkpoint, key)
                figures = run(options.rhapsode, config, None, options.threads)
                show(f"rhapsode {kind}", figures)
                if GUIDE_SHAPE.items() <= json.loads((checkpoint / "config.json").read_text()).items():
                    print(f"{'':24} the guide: {GUIDE[kind]} GB of weights; held: {figures['weights'] / 1e9:.3f} GB", flush=True)
            if options.python and kind in wanted:
                judge(options.python, checkpoint, options.judge_checkpoint or checkpoint, kind, options.threads)
        if "cold" in wanted:
            forget(checkpoint)
            show("rhapsode nf4, cold", run(options.rhapsode, write_config(scratch, checkpoint, "4bit"), None, options.threads))
        if "whole" in wanted:
            config = write_config(scratch, checkpoint, "4bit", "low_cpu_mem_usage: false")
            show("rhapsode nf4, whole", run(options.rhapsode, config, None, options.threads))
        if "cached" in wanted:
            config = write_config(scratch, checkpoint, "4bit")
            show("rhapsode nf4, writing", run(options.rhapsode, config, cache, options.threads))
            show("rhapsode nf4, cached", run(options.rhapsode, config, cache, options.threads))
        if not options.cache:
            shutil.rmtree(cache, ignore_errors=True)


if __name__ == "__main__":
    main()

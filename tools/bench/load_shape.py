#!/usr/bin/env python3
"""Measures loading a checkpoint of a given shape in 8 and 4 bits: time, resident weights, peak memory against the plan.

    load_shape.py RHAPSODE CHECKPOINT [--python JUDGES] [--cache DIRECTORY] [--formats int8,nf4,cached]

CHECKPOINT comes from make_shape.py, or is any model. With --python (an interpreter that has transformers, accelerate and
bitsandbytes) the same checkpoint is loaded there too. `nf4` is 4bit with double quantization; `cached` is its second start
from a packed cache, whose first start writes it.
"""

import argparse
import json
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


def write_config(directory, checkpoint, quantization):
    file = pathlib.Path(directory) / "shape.yaml"
    file.write_text(
        "generator:\n  active_model: shape\n  models:\n    shape:\n      type: huggingface\n"
        f'      model_id: "{checkpoint}"\n      torch_dtype: bfloat16\n      quantization: "{quantization}"\n'
        "      do_sample: false\n      max_tokens: 1\n      max_context: 64\n"
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


def judge(python, checkpoint, kind, threads):
    done = subprocess.run(
        [python, "-c", JUDGE, str(checkpoint), kind, str(threads)], capture_output=True, text=True
    )
    if done.returncode != 0:
        return print(f"transformers {kind}: {done.stderr.strip().splitlines()[-1]}", flush=True)
    figures = json.loads(done.stdout.strip().splitlines()[-1])
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
                show(f"rhapsode {kind}", run(options.rhapsode, config, None, options.threads))
            if options.python and kind in wanted:
                judge(options.python, checkpoint, kind, options.threads)
        if "cached" in wanted:
            config = write_config(scratch, checkpoint, "4bit")
            show("rhapsode nf4, writing", run(options.rhapsode, config, cache, options.threads))
            show("rhapsode nf4, cached", run(options.rhapsode, config, cache, options.threads))
        if not options.cache:
            shutil.rmtree(cache, ignore_errors=True)


if __name__ == "__main__":
    main()

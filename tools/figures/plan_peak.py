#!/usr/bin/env python3
"""The plan's total beside the measured peak of resident memory, over formats, contexts, prompts, `run` and `bench`.

Owns the cases and the comparison; the two figures are the program's own (`memory` of run --json, bench --json), and the peak
is compared with what the kernel counted for the child (ru_maxrss). Exit code 1 where one case is off by more than --within.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

FORMATS = {
    "float32": ["torch_dtype=float32"],
    "bfloat16": ["torch_dtype=bfloat16"],
    "8bit": ["quantization=8bit"],
    "4bit": ["quantization=4bit"],
}
# prompt tokens, new tokens
LENGTHS = [(4, 4), (32, 32), (200, 56), (512, 64), (1200, 80)]


def measured(command):
    """The JSON on stdout and the peak that the kernel counted for the child."""
    with tempfile.TemporaryFile() as out:
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE)
        errors = child.stderr.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read()
    if child.returncode != 0:
        sys.exit(f"{' '.join(command)}\nended with {child.returncode}: {errors.decode()}{text.decode()}")
    return json.loads(text), usage.ru_maxrss * 1024


def run_case(binary, config, sets, prompt, new):
    ids = ",".join(str(1 + i * 7919 % 40000) for i in range(prompt))
    command = [binary, "run", "-c", config, "--json", "-q", "--ids", ids]
    sets = sets + [f"max_new_tokens={new}", f"min_new_tokens={new}", "do_sample=false"]
    out, kernel_peak = measured(command + [part for value in sets for part in ("--set", value)])
    return out["memory"]["plan_bytes"], out["memory"]["peak_rss_bytes"], kernel_peak


def bench_case(binary, config, sets, prompt, new):
    command = [binary, "bench", "-c", config, "--json", "-q", "--rounds", "1", "--prompt-tokens", str(prompt), "--new-tokens", str(new)]
    out, kernel_peak = measured(command + [part for value in sets for part in ("--set", value)])
    return out["plan_bytes"], out["peak_rss_bytes"], None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default="build/release/rhapsode")
    parser.add_argument("--model", required=True, help="a checkpoint directory, such as the one that ./dev demo fetches")
    parser.add_argument("--within", type=float, default=3.0, help="percent")
    options = parser.parse_args()
    worst, cases, cpu = 0.0, 0, ""
    with tempfile.TemporaryDirectory() as scratch:
        config = os.path.join(scratch, "rag.yaml")
        with open(config, "w") as file:
            file.write(f"generator:\n  active_model: m\n  models:\n    m:\n      model_id: {os.path.abspath(options.model)}\n")
        print("command format     prompt  new        plan        peak  peak - plan      %", flush=True)
        for name, sets in FORMATS.items():
            for prompt, new in LENGTHS:
                for kind, case in (("run", run_case), ("bench", bench_case)):
                    plan, peak, kernel_peak = case(options.binary, config, sets, prompt, new)
                    if kernel_peak is not None and abs(kernel_peak - peak) > 0.01 * peak:
                        sys.exit(f"the program says {peak} bytes, the kernel {kernel_peak}")
                    percent = 100.0 * (peak - plan) / plan
                    worst, cases = max(worst, abs(percent)), cases + 1
                    print(f"{kind:8}{name:10}{prompt:7}{new:5}{plan:12}{peak:12}{peak - plan:13}{percent:7.2f}", flush=True)
    version = json.loads(subprocess.run([options.binary, "version", "--json"], capture_output=True, check=True).stdout)
    print(f"{cases} cases on {version['cpu']}: the largest difference is {worst:.2f} % (bound: {options.within} %)")
    return 0 if worst <= options.within else 1


if __name__ == "__main__":
    sys.exit(main())

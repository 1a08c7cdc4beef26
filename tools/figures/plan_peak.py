#!/usr/bin/env python3
"""The plan's total beside the measured peak of resident memory, over formats, contexts, prompts, ways to choose tokens, `run`, `bench`,
`chat` and `ppl`.

Owns the cases and the comparison; the two figures are the program's own (`memory` of run --json, bench --json; the line of --verbose and
the kernel's count for chat and ppl), and the peak is compared with what the kernel counted for the child (ru_maxrss). Exit code 1 where
one case is off by more than --within.
"""

import argparse
import json
import os
import re
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
# Ways to choose tokens, and whether a file of prompts is answered together; 4bit, where little else is held.
CHOICES = {
    "4 beams": (["num_beams=4"], 0),
    "16 beams, drawn": (["num_beams=16", "do_sample=true"], 0),
    "16 answers": (["do_sample=true", "num_return_sequences=16", "top_k=0", "typical_p=0.9"], 0),
    "guidance": (["guidance_scale=1.5"], 0),
    "lookup": (["do_sample=false", "prompt_lookup_num_tokens=10"], 0),
    "16 prompts": (["do_sample=true", "top_k=0", "top_p=0.9"], 16),
    "trace": (["do_sample=true", "top_k=0"], 0),
}
PLANNED = re.compile(r"plan: ([0-9.]+) ([kMG])B")
UNITS = {"k": 1e3, "M": 1e6, "G": 1e9}


def measured(command, text=""):
    """stdout, stderr and the peak that the kernel counted for the child."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as given:
        given.write(text.encode())
        given.seek(0)
        child = subprocess.Popen(command, stdin=given, stdout=out, stderr=subprocess.PIPE)
        errors = child.stderr.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read()
    if child.returncode != 0:
        sys.exit(f"{' '.join(command)}\nended with {child.returncode}: {errors.decode()}{text.decode()}")
    return text.decode(), errors.decode(), usage.ru_maxrss * 1024


def arguments(sets):
    return [part for value in sets for part in ("--set", value)]


def ids_of(prompt, first=1):
    return [first + i * 7919 % 40000 for i in range(prompt)]


def run_json(command):
    out, _, kernel_peak = measured(command)
    memory = json.loads(out)["memory"]
    return memory["plan_bytes"], memory["peak_rss_bytes"], kernel_peak


def run_case(binary, config, sets, prompt, new):
    command = [binary, "run", "-c", config, "--json", "-q", "--ids", ",".join(map(str, ids_of(prompt)))]
    return run_json(command + arguments(sets + [f"max_new_tokens={new}", f"min_new_tokens={new}", "do_sample=false"]))


def choice_case(binary, config, scratch, name):
    prompt, new = 24, 6
    sets, prompts = CHOICES[name]
    command = [binary, "run", "-c", config, "--json", "-q"]
    if prompts:
        path = os.path.join(scratch, "prompts.jsonl")
        with open(path, "w") as file:
            file.writelines(json.dumps({"ids": ids_of(prompt, 1 + i)}) + "\n" for i in range(prompts))
        command += ["--prompts-file", path, "--batch", str(prompts)]
    else:
        command += ["--ids", ",".join(map(str, ids_of(prompt)))]
    if name == "trace":
        command += ["--trace", "5"]
    return run_json(command + arguments(FORMATS["4bit"] + sets + [f"max_new_tokens={new}", f"min_new_tokens={new}"]))


def told_case(command, text=""):
    """Of a command that says its plan on stderr alone: three digits."""
    _, errors, kernel_peak = measured(command + ["-v"], text)
    number, unit = PLANNED.search(errors).groups()
    return int(float(number) * UNITS[unit]), kernel_peak, None


def chat_case(binary, config, _):
    """The context is filled: what a plan reserves is taken when it is used."""
    sets = FORMATS["4bit"] + ["max_context=256", "max_new_tokens=200", "min_new_tokens=200", "do_sample=true", "top_k=0", "top_p=0.9"]
    return told_case([binary, "chat", "-c", config, "--json"] + arguments(sets), "Tell me a long story.\n")


def ppl_case(binary, config, scratch):
    path = os.path.join(scratch, "ids.txt")
    with open(path, "w") as file:
        file.write(" ".join(map(str, ids_of(700))))
    return told_case([binary, "ppl", "-c", config, "--ids", path, "--json"] + arguments(FORMATS["4bit"]))


def bench_case(binary, config, sets, prompt, new):
    command = [binary, "bench", "-c", config, "--json", "-q", "--rounds", "1", "--prompt-tokens", str(prompt), "--new-tokens", str(new)]
    out = json.loads(measured(command + arguments(sets))[0])
    return out["plan_bytes"], out["peak_rss_bytes"], None


class Table:
    def __init__(self):
        self.worst, self.cases = 0.0, 0
        print("command format          prompt  new        plan        peak  peak - plan      %", flush=True)

    def add(self, what, figures):
        plan, peak, kernel_peak = figures
        if kernel_peak is not None and abs(kernel_peak - peak) > 0.01 * peak:
            sys.exit(f"the program says {peak} bytes, the kernel {kernel_peak}")
        percent = 100.0 * (peak - plan) / plan
        self.worst, self.cases = max(self.worst, abs(percent)), self.cases + 1
        print(f"{what:36}{plan:12}{peak:12}{peak - plan:13}{percent:7.2f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default="build/release/rhapsode")
    parser.add_argument("--model", required=True, help="a checkpoint directory, such as the one that ./dev demo fetches")
    parser.add_argument("--within", type=float, default=3.0, help="percent")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        config = os.path.join(scratch, "rag.yaml")
        with open(config, "w") as file:
            file.write(f"generator:\n  active_model: m\n  models:\n    m:\n      model_id: {os.path.abspath(options.model)}\n")
        table = Table()
        for name in CHOICES:
            table.add(f"run     4bit, {name}", choice_case(options.binary, config, scratch, name))
        table.add("chat    4bit, context filled", chat_case(options.binary, config, scratch))
        table.add("ppl     4bit", ppl_case(options.binary, config, scratch))
        for name, sets in FORMATS.items():
            for prompt, new in LENGTHS:
                for kind, case in (("run", run_case), ("bench", bench_case)):
                    table.add(f"{kind:8}{name:15}{prompt:7}{new:5}", case(options.binary, config, sets, prompt, new))
    version = json.loads(subprocess.run([options.binary, "version", "--json"], capture_output=True, check=True).stdout)
    print(f"{table.cases} cases on {version['cpu']}: the largest difference is {table.worst:.2f} % (bound: {options.within} %)")
    return 0 if table.worst <= options.within else 1


if __name__ == "__main__":
    sys.exit(main())

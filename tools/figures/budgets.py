#!/usr/bin/env python3
"""A real model under memory limits of the kernel, from 0.3 to 1.5 times of what it needs: it runs, or is refused at once.

Each budget is a control group of its own, made where the caller may (version 1: below its own; version 2: below the nearest one that
hands memory down); the program finds the limit by itself. A refusal must take less than a second of processor time (of time, on an idle machine) and name bytes that do, which are then
tried. At the end the limit is lowered while an
answer is written. Exit code 1 where one of these fails, and where the kernel had to kill.
"""

import argparse
import contextlib
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time

FORMATS = {"float32": "torch_dtype=float32", "bfloat16": "torch_dtype=bfloat16", "8bit": "quantization=8bit", "4bit": "quantization=4bit"}
FIT = re.compile(r"it fits with (\d+) bytes on cpu")
DOES_NOT_FIT = 7


class Group:
    """A control group with a memory limit, below the one that this process is in."""

    def __init__(self, limit_bytes):
        self.version, parent = self.parent()
        self.path = os.path.join(parent, f"rhapsode-{os.getpid()}-{time.monotonic_ns()}")
        os.mkdir(self.path)
        self.limit(limit_bytes)

    @staticmethod
    def parent():
        for line in open("/proc/self/cgroup"):
            _, controllers, path = line.rstrip("\n").split(":", 2)
            first = f"/sys/fs/cgroup/memory{path}"
            if controllers == "memory" and os.access(first, os.W_OK):
                return 1, first
            second = f"/sys/fs/cgroup{path}"
            while controllers == "" and second.startswith("/sys/fs/cgroup"):
                if os.access(second, os.W_OK) and Group.hands_memory_down(second):
                    return 2, second
                second = os.path.dirname(second.rstrip("/"))
        sys.exit("this machine lets us make no control group: run it as root, or in a delegated group")

    @staticmethod
    def hands_memory_down(directory):
        with contextlib.suppress(OSError), open(os.path.join(directory, "cgroup.subtree_control")) as file:
            return "memory" in file.read().split()
        return False

    def name(self, first, second):
        return os.path.join(self.path, first if self.version == 1 else second)

    def limit(self, limit_bytes):
        with open(self.name("memory.limit_in_bytes", "memory.max"), "w") as file:
            file.write(str(limit_bytes // 4096 * 4096))

    def number(self, first, second):
        return int(open(self.name(first, second)).read())

    def kills(self):
        text = open(self.name("memory.oom_control", "memory.events")).read()
        return int(re.search(r"oom_kill (\d+)", text).group(1))

    def enter(self):
        with open(os.path.join(self.path, "cgroup.procs"), "w") as file:
            file.write("0")

    def remove(self):
        for _ in range(100):
            with contextlib.suppress(OSError):
                return os.rmdir(self.path)
            time.sleep(0.05)


@contextlib.contextmanager
def group(limit_bytes):
    made = Group(limit_bytes)
    try:
        yield made
    finally:
        made.remove()


def processor_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class Trial:
    def __init__(self, options, config):
        self.command = [options.binary, "run", "-c", config, "--json", "--quiet", "--ids", ",".join(str(1 + i * 7919 % 40000) for i in range(options.prompt))]
        self.command += ["--set", f"max_new_tokens={options.new}", "--set", f"min_new_tokens={options.new}", "--set", "do_sample=false"]

    def run(self, setting, limit_bytes=None):
        """(exit code, JSON, (seconds, seconds of processor time), kills, peak of the group)"""
        command = self.command + ["--set", setting]
        if limit_bytes is None:
            done = subprocess.run(command, capture_output=True)
            return done.returncode, json.loads(done.stdout), (0.0, 0.0), 0, 0
        with group(limit_bytes) as made:
            start, before = time.monotonic(), processor_seconds()
            done = subprocess.run(command, capture_output=True, preexec_fn=made.enter)
            seconds = (time.monotonic() - start, processor_seconds() - before)
            kills, peak = made.kills(), made.number("memory.max_usage_in_bytes", "memory.peak")
        out = json.loads(done.stdout) if done.stdout else {}
        return done.returncode, out, seconds, kills, peak


def in_group(bytes_needed):
    """A group's limit that leaves so many bytes to the program (see CgroupMemory::available_bytes), and a page or two."""
    return (bytes_needed + (2 << 20)) * 256 // 255 + (1 << 20)


def one_budget(trial, setting, need, share, answer):
    limit = int(need * share)
    code, out, seconds, kills, peak = trial.run(setting, limit)
    if kills or code not in (0, DOES_NOT_FIT):
        return False, f"ended with {code}, {kills} kills: {out}"
    if code == 0:
        right = out["output_ids"] == answer
        return right, f"ran, the group's peak {peak} of {limit}" + ("" if right else ": another answer")
    found = FIT.search(out["error"]["expected"])
    if not found:
        return False, f"refused without a workable budget: {out['error']}"
    workable = int(found.group(1))
    code, again, _, kills, _ = trial.run(setting, in_group(workable))
    right = code == 0 and kills == 0 and again["output_ids"] == answer and seconds[1] < 1.0
    return right, f"refused in {seconds[0] * 1e3:.0f} ms, {seconds[1] * 1e3:.0f} ms of processor time; {workable} bytes {'do' if code == 0 else f'do not: {again}'}"


def lowered(options, config):
    """The limit goes down to what is used while the answer is written: an error, not a kill."""
    new = 1500
    command = [options.binary, "run", "-c", config, "--prompt", "Tell me a long story.", "--set", f"max_new_tokens={new}", "--set", f"min_new_tokens={new}"]
    with group(1 << 40) as made:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=made.enter)
        os.read(child.stdout.fileno(), 1)
        made.limit(made.number("memory.usage_in_bytes", "memory.current") + (4 << 20))
        out, errors = child.communicate()
        kills = made.kills()
    told = b"memory-pressure" in errors
    print(f"lowered while {new} tokens were asked for: exit code {child.returncode}, {kills} kills, {errors.decode().splitlines()[:1]}")
    return child.returncode == DOES_NOT_FIT and kills == 0 and told


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default="build/release/rhapsode")
    parser.add_argument("--model", required=True, help="a checkpoint directory, such as the one that ./dev demo fetches")
    parser.add_argument("--budgets", type=int, default=40)
    parser.add_argument("--prompt", type=int, default=64)
    parser.add_argument("--new", type=int, default=8)
    options = parser.parse_args()
    failed, ran = 0, 0
    with tempfile.TemporaryDirectory() as scratch:
        config = os.path.join(scratch, "rag.yaml")
        with open(config, "w") as file:
            file.write(f"generator:\n  active_model: m\n  models:\n    m:\n      model_id: {os.path.abspath(options.model)}\n")
        trial = Trial(options, config)
        free = {name: trial.run(setting)[1] for name, setting in FORMATS.items()}
        for i in range(options.budgets):
            name = list(FORMATS)[i % len(FORMATS)]
            share = 0.3 + 1.2 * i / max(1, options.budgets - 1)
            good, text = one_budget(trial, FORMATS[name], free[name]["memory"]["peak_rss_bytes"], share, free[name]["output_ids"])
            failed, ran = failed + (not good), ran + text.startswith("ran")
            print(f"{'ok    ' if good else 'FAILED'} {name:9} {share:5.2f} of the need: {text}", flush=True)
        failed += not lowered(options, config)
    print(f"{options.budgets} budgets: {ran} ran, {options.budgets - ran} refused; {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

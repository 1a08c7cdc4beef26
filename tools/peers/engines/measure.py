"""Owns the arguments and the one line of output that all engines share. Knows no engine.

A measured engine gives two callables: prompt(ids) computes a fresh prompt, decode(count) computes `count` more tokens, one at a
time. Both are warmed up once before the clock runs.
"""

import argparse
import json
import resource
import time


def arguments(*switches):
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--format", required=True)
    parser.add_argument("--prompt-tokens", type=int, required=True)
    parser.add_argument("--new-tokens", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--vocab-size", type=int, required=True)
    for switch in switches:
        parser.add_argument(switch, action="store_true")
    return parser.parse_args()


def prompt_ids(count, vocab_size):
    """The ids that `rhapsode bench` uses."""
    return [i * 7919 % vocab_size for i in range(count)]


def report(prompt_tokens_per_s, decode_tokens_per_s, load_s, **more):
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"prompt_tokens_per_s": prompt_tokens_per_s, "decode_tokens_per_s": decode_tokens_per_s,
                      "load_s": load_s, "peak_rss_bytes": peak, **more}))


def timed(call, *args):
    start = time.perf_counter()
    call(*args)
    return time.perf_counter() - start


def measure(options, load_s, prompt, decode):
    ids = prompt_ids(options.prompt_tokens, options.vocab_size)
    prompt(ids[:8])
    decode(2)
    prompt_s = timed(prompt, ids)
    decode_s = timed(decode, options.new_tokens)
    report(len(ids) / prompt_s, options.new_tokens / decode_s, load_s)

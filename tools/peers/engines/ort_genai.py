"""onnxruntime-genai: a directory that its own model builder made (int4, blocks of 32)."""

import json
import time

import measure
import onnxruntime_genai as genai


def main():
    options = measure.arguments()
    longest = options.prompt_tokens + options.new_tokens + 1
    start = time.perf_counter()
    config = genai.Config(options.model)
    config.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": options.threads}}}}))
    model = genai.Model(config)
    load_s = time.perf_counter() - start
    generator = None

    def prompt(ids):
        nonlocal generator
        params = genai.GeneratorParams(model)
        params.set_search_options(do_sample=False, min_length=longest, max_length=longest)
        generator = genai.Generator(model, params)
        generator.append_tokens(ids)
        generator.generate_next_token()

    def decode(count):
        for _ in range(count):
            generator.generate_next_token()

    measure.measure(options, load_s, prompt, decode)


main()

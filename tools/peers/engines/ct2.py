"""CTranslate2: its generator on a directory made by its own converter. Decoding is the difference of two lengths."""

import json
import time

import ctranslate2
import measure

TYPES = {"bf16": "bfloat16", "8bit": "int8"}


def main():
    options = measure.arguments()
    start = time.perf_counter()
    generator = ctranslate2.Generator(options.model, device="cpu", compute_type=TYPES[options.format],
                                      intra_threads=options.threads)
    load_s = time.perf_counter() - start
    with open(f"{options.model}/vocabulary.json", encoding="utf-8") as file:
        vocabulary = json.load(file)
    tokens = [vocabulary[i] for i in measure.prompt_ids(options.prompt_tokens, len(vocabulary))]

    def generate(count):
        result = generator.generate_batch([tokens], max_length=count, min_length=count, include_prompt_in_result=False,
                                          sampling_topk=1)
        assert len(result[0].sequences_ids[0]) == count

    generate(1)
    one = measure.timed(generate, 1)
    many = measure.timed(generate, 1 + options.new_tokens)
    measure.report(len(tokens) / one, options.new_tokens / (many - one), load_s)


main()

"""openvino-genai: a GGUF file with a tokenizer. Its own clock is read, since it generates an answer in one call."""

import time

import measure
import numpy
import openvino
import openvino_genai


def main():
    options = measure.arguments()
    start = time.perf_counter()
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.enable_prefix_caching = False  # every prompt is a fresh one
    scheduler.max_num_batched_tokens = max(512, options.prompt_tokens)
    pipeline = openvino_genai.LLMPipeline(options.model, "CPU", scheduler_config=scheduler,
                                          INFERENCE_NUM_THREADS=options.threads)
    load_s = time.perf_counter() - start
    ids = numpy.array([measure.prompt_ids(options.prompt_tokens, options.vocab_size)], dtype=numpy.int64)

    def generate(prompt, count):
        inputs = openvino_genai.TokenizedInputs(openvino.Tensor(prompt), openvino.Tensor(numpy.ones_like(prompt)))
        return pipeline.generate(inputs, max_new_tokens=count, ignore_eos=True, do_sample=False).perf_metrics

    generate(numpy.ascontiguousarray(ids[:, :8]), 3)  # as measure.measure warms the others
    metrics = generate(ids, options.new_tokens + 1)
    if metrics.get_num_generated_tokens() != options.new_tokens + 1:
        raise SystemExit(f"{metrics.get_num_generated_tokens()} tokens were generated, not {options.new_tokens + 1}")
    measure.report(options.prompt_tokens / metrics.get_ttft().mean * 1e3, 1e3 / metrics.get_tpot().mean, load_s)


main()

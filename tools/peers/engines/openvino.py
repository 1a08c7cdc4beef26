"""OpenVINO GenAI on a GGUF file, with its own counters of the first token and of the tokens after it."""

import time

import measure
import numpy
import openvino
import openvino_genai


def main():
    options = measure.arguments()
    start = time.perf_counter()
    pipeline = openvino_genai.LLMPipeline(options.model, "CPU", {"INFERENCE_NUM_THREADS": options.threads})
    load_s = time.perf_counter() - start
    ids = openvino.Tensor(numpy.array([measure.prompt_ids(options.prompt_tokens, options.vocab_size)], dtype=numpy.int64))
    inputs = openvino_genai.TokenizedInputs(ids, openvino.Tensor(numpy.ones_like(ids.data)))
    config = openvino_genai.GenerationConfig()
    config.ignore_eos = True
    config.max_new_tokens = config.min_new_tokens = 1 + options.new_tokens
    pipeline.generate(inputs, config)
    metrics = pipeline.generate(inputs, config).perf_metrics
    measure.report(options.prompt_tokens * 1e3 / metrics.get_ttft().mean, 1e3 / metrics.get_tpot().mean, load_s)


main()

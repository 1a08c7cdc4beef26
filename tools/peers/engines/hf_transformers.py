"""transformers with bitsandbytes: the calls that the YAML's Python pipeline makes, without its sampling."""

import os
import time

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import measure
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig


def quantization(name):
    if name == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    if name == "4bit":
        return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                                  bnb_4bit_compute_dtype=torch.bfloat16)
    return None


class Engine:
    def __init__(self, options):
        torch.set_num_threads(options.threads)
        start = time.perf_counter()
        self.model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.bfloat16, device_map="cpu",
                                                          quantization_config=quantization(options.format))
        self.load_s = time.perf_counter() - start
        self.cache, self.logits = None, None

    @torch.inference_mode()
    def prompt(self, ids):
        self.cache = None
        self.step(ids)

    @torch.inference_mode()
    def decode(self, count):
        for _ in range(count):
            self.step([int(self.logits.argmax())])

    def step(self, ids):
        out = self.model(input_ids=torch.tensor([ids]), past_key_values=self.cache, use_cache=True, logits_to_keep=1)
        self.cache, self.logits = out.past_key_values, out.logits[0, -1]


def main():
    options = measure.arguments()
    engine = Engine(options)
    measure.measure(options, engine.load_s, engine.prompt, engine.decode)


main()

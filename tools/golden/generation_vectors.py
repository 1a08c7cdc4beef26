"""Golden vectors of generation: what transformers' processors, warpers and decoding loops make of seeded inputs.

Usage: python tools/golden/generation_vectors.py   (writes tests/fixtures/generation/*.json)

processors.json: one row of scores in, the row that _get_logits_processor's list makes of it out.
decoding.json:   generate() on Markov tables (scores of the next token = a row of a table chosen by the last one).
lookup.json:     drafts of PromptLookupCandidateGenerator.

Drawing is replaced (torch.multinomial) by the product's own rule over its own uniforms, so that sampled ids compare.
Cases in which a choice hangs on an exact tie, or on rounding, are left out: transformers does not define them.
"""

import json
import pathlib
import random
import types

import numpy as np
import pins
import torch
from transformers import GenerationConfig, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.generation.candidate_generator import PromptLookupCandidateGenerator
from transformers.modeling_outputs import CausalLMOutputWithPast

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests/fixtures/generation"
DEFAULTS = dict(
    do_sample=False, temperature=1.0, top_k=0, top_p=1.0, repetition_penalty=1.0, num_beams=1, remove_invalid_values=False
)


def number(x):
    """Shortest text of a float32; infinities and NaN as strings."""
    x = np.float32(x)
    return float(str(x)) if np.isfinite(x) else str(x)


def philox_uniform(seed, stream, position):
    low, high = (lambda x: x & 0xFFFFFFFF), (lambda x: x >> 32)
    c, k = [low(position), high(position), low(stream), high(stream)], [low(seed), high(seed)]
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [high(b) ^ c[1] ^ k[0], low(b), high(a) ^ c[3] ^ k[1], low(a)]
        k = [low(k[0] + 0x9E3779B9), low(k[1] + 0xBB67AE85)]
    return ((c[0] << 32 | c[1]) >> 11) * 2.0**-53


class Markov(PreTrainedModel, GenerationMixin):
    config_class = PretrainedConfig
    main_input_name = "input_ids"

    def __init__(self, table):
        super().__init__(PretrainedConfig())
        self.table = torch.nn.Parameter(table)
        self.generation_config = GenerationConfig()

    def prepare_inputs_for_generation(self, input_ids, **kwargs):
        return {"input_ids": input_ids}

    def forward(self, input_ids, **kwargs):
        return CausalLMOutputWithPast(logits=self.table[input_ids])

    @classmethod
    def can_generate(cls):
        return True


def processor_list(params, prompt, masked, max_length):
    config = GenerationConfig(**{**DEFAULTS, **params}, max_length=max_length)
    eos = params.get("eos_token_id")
    config._eos_token_tensor = torch.tensor(eos) if eos else None
    mask = torch.ones(1, prompt, dtype=torch.long)
    mask[:, :masked] = 0
    owner = types.SimpleNamespace(config=types.SimpleNamespace(is_encoder_decoder=False))
    owner._merge_criteria_processor_list = lambda default, custom: default
    return GenerationMixin._get_logits_processor(
        owner, config, input_ids_seq_length=prompt, model_kwargs={"attention_mask": mask}
    )


class Rows:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.rows = []

    def scores(self, vocab, minus_inf=0, ties=False, scale=3.0):
        r = self.random
        row = [r.gauss(0, scale) for _ in range(vocab)]
        if ties:
            row = [round(x) * 0.5 for x in row]
        for i in r.sample(range(vocab), minus_inf):
            row[i] = -float("inf")
        return [float(np.float32(round(x, 4))) if np.isfinite(x) else x for x in row]

    def add(self, name, params, ids, prompt, scores, masked=0, max_new_tokens=20):
        processors = processor_list(params, prompt, masked, prompt + max_new_tokens)
        out = processors(torch.tensor([ids]), torch.tensor([scores], dtype=torch.float32))
        self.rows.append(
            dict(
                name=name, params=params, ids=ids, prompt=prompt, masked=masked, max_new_tokens=max_new_tokens,
                scores=[number(x) for x in scores], expected=[number(x) for x in out[0].tolist()],
            )
        )  # fmt: skip

    def ids(self, length, vocab):
        return [self.random.randrange(vocab) for _ in range(length)]


def single_rules(r):
    """name -> parameters, for a vocabulary of at least 12 and end-of-sequence ids given by the rule."""
    rnd = r.random
    phrase = lambda n: [rnd.randrange(12) for _ in range(n)]
    return {
        "sequence_bias": lambda: dict(
            sequence_bias=[[list(t), round(rnd.uniform(-4, 4), 2)] for t in {tuple(phrase(n)) for n in (1, 1, 2, 2, 3)}]
        ),
        "repetition_penalty": lambda: dict(repetition_penalty=round(rnd.uniform(0.6, 1.9), 2)),
        "no_repeat_ngram_size": lambda: dict(no_repeat_ngram_size=rnd.randrange(1, 5)),
        "bad_words_ids": lambda: dict(bad_words_ids=[phrase(n) for n in (1, 2, 2, 3)] + [[3]], eos_token_id=[3, 5]),
        "min_length": lambda: dict(min_length=rnd.randrange(1, 12), eos_token_id=[rnd.randrange(12)]),
        "min_new_tokens": lambda: dict(min_new_tokens=rnd.randrange(1, 6), eos_token_id=[1, 4]),
        "forced_bos_token_id": lambda: dict(forced_bos_token_id=rnd.randrange(12)),
        "forced_eos_token_id": lambda: dict(forced_eos_token_id=[2, 7]),
        "exponential_decay_length_penalty": lambda: dict(
            exponential_decay_length_penalty=[rnd.randrange(0, 3), round(rnd.uniform(0.8, 1.6), 2)],
            eos_token_id=[0, 6],
        ),
        "suppress_tokens": lambda: dict(suppress_tokens=phrase(3)),
        "begin_suppress_tokens": lambda: dict(begin_suppress_tokens=phrase(3)),
        "renormalize_logits": lambda: dict(renormalize_logits=True),
    }


def warper_rules(r):
    rnd = r.random
    return {
        "temperature": lambda: dict(temperature=round(rnd.uniform(0.2, 2.5), 2)),
        "top_k": lambda: dict(top_k=rnd.randrange(1, 60)),
        "top_p": lambda: dict(top_p=round(rnd.uniform(0.05, 0.99), 3)),
        "min_p": lambda: dict(min_p=round(rnd.uniform(0.001, 0.6), 3)),
        "typical_p": lambda: dict(typical_p=round(rnd.uniform(0.1, 0.97), 3)),
        "epsilon_cutoff": lambda: dict(epsilon_cutoff=round(rnd.uniform(0.001, 0.3), 4)),
        "eta_cutoff": lambda: dict(eta_cutoff=round(rnd.uniform(0.001, 0.3), 4)),
    }


def processor_rows():
    r = Rows(20261)
    rnd = r.random
    single, warpers = single_rules(r), warper_rules(r)
    for name, make in single.items():
        for i in range(10):
            vocab, prompt = rnd.choice([12, 17, 70]), rnd.randrange(1, 7)
            ids = r.ids(prompt + rnd.randrange(0, 7), min(vocab, 12))
            new = len(ids) - prompt + 1 if name == "forced_eos_token_id" and i % 2 else 20
            if name == "forced_bos_token_id" and i % 2:
                ids, prompt = ids[:1], 1
            if name == "begin_suppress_tokens" and i % 2:
                ids = ids[:prompt]
            masked = rnd.randrange(0, prompt) if i % 3 == 2 else 0
            r.add(name, make(), ids, prompt, r.scores(vocab, minus_inf=2 if i % 4 == 3 else 0), masked, new)
    for i in range(4):
        scores = r.scores(12, 2)
        scores[1:4] = [float("nan"), float("inf"), 0.0]
        r.add("remove_invalid_values", dict(remove_invalid_values=True), [1, 2], 1, scores)
        begin = dict(begin_suppress_tokens=[1, 3], forced_bos_token_id=5)
        r.add("begin after bos", begin, [1, 2][: 1 + i % 2], 1, r.scores(12))
        r.add("scaled phrases", dict(sequence_bias=[[[1, 2], 2.5], [[2], -1.25], [[0, 1, 2], 0.5]]), [9, 0, 1], 2, r.scores(12))
    for name, make in warpers.items():
        for i in range(14):
            vocab = rnd.choice([5, 12, 40, 100])
            extra = {}
            if i % 4 == 3:  # beam-sample keeps at least eos + 1
                extra = dict(num_beams=2, eos_token_id=[1, 2][: 1 + i % 2])
            scores = r.scores(vocab, minus_inf=min(3, vocab - 4) if i % 3 == 1 else 0, ties=name == "top_k" and i % 2, scale=2.0)
            r.add(name, dict(do_sample=True, **make(), **extra), [1], 1, scores)
    edges = torch.log(torch.tensor([0.4, 0.3, 0.2, 0.05, 0.05])).tolist()
    for p in (0.9, 0.7, 0.95, 0.0, 0.5):
        r.add("top_p edge", dict(do_sample=True, top_p=p), [1], 1, [float(np.float32(x)) for x in edges])
    for i in range(70):
        combined_row(r, i, single, warpers)
    return r.rows


def combined_row(r, i, single, warpers):
    rnd = r.random
    params = {}
    names = rnd.sample(sorted(set(single) - {"forced_eos_token_id", "forced_bos_token_id"}), rnd.randrange(1, 5))
    for name in names:
        params.update(single[name]())
    if any(n in params for n in ("min_length", "min_new_tokens", "exponential_decay_length_penalty")):
        params["eos_token_id"] = [1, 4]
    if i % 2:
        params["do_sample"] = True
        for name in rnd.sample(sorted(warpers), rnd.randrange(1, 5)):
            params.update(warpers[name]())
    vocab, prompt = rnd.choice([24, 70]), rnd.randrange(1, 5)
    r.add("combined: " + " ".join(sorted(params)), params, r.ids(prompt + rnd.randrange(0, 5), 12), prompt, r.scores(vocab))


def write(name, value):
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in value)
    (OUT / name).write_text("[\n" + lines + "\n]\n")
    print(name, len(value), "cases", (OUT / name).stat().st_size, "bytes")


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    pins.check()
    pins.settle()
    write("processors.json", processor_rows())


if __name__ == "__main__":
    main()

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

    def prepare_inputs_for_generation(self, input_ids, attention_mask=None, **kwargs):
        return {"input_ids": input_ids}

    def forward(self, input_ids, attention_mask=None, **kwargs):
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


class Tied(Exception):
    """A choice that transformers does not define."""


def watch_ties(model):
    """Makes generate() raise Tied where the order of its continuations hangs on equal or nearly equal scores."""
    original = model._get_top_k_continuations

    def watched(accumulated_log_probs, beams_to_keep, do_sample, **kwargs):
        best = accumulated_log_probs[0].sort(descending=True)[0][: beams_to_keep + 1]
        if not do_sample and (best[:-1] - best[1:] < 2e-5).any() or not torch.isfinite(best[:beams_to_keep]).all():
            raise Tied
        if do_sample and (accumulated_log_probs[0].softmax(-1) > 0).sum() < beams_to_keep:
            raise Tied
        return original(
            accumulated_log_probs=accumulated_log_probs, beams_to_keep=beams_to_keep, do_sample=do_sample, **kwargs
        )

    model._get_top_k_continuations = watched


class OwnDraws:
    """torch.multinomial by the product's rule: inverse of the cumulative distribution, without replacement."""

    def __init__(self, seed):
        self.seed, self.position = seed, 0

    def __call__(self, probabilities, num_samples, **kwargs):
        p = probabilities[0].double().numpy().copy()
        picks = []
        for _ in range(num_samples):
            target = philox_uniform(self.seed, 0, self.position) * p.sum()
            self.position += 1
            sums = np.cumsum(p)
            if np.abs(sums[p > 0] - target).min() < 1e-6:
                raise Tied
            picks.append(int(np.nonzero((sums > target) & (p > 0))[0][0]))
            p[picks[-1]] = 0
        return torch.tensor([picks])


def decode(table, prompt, params):
    """generate() -> (ids without the prompt and filler, scores) of each sequence."""
    model = Markov(torch.tensor(table, dtype=torch.float32))
    watch_ties(model)
    kept, torch.multinomial = torch.multinomial, OwnDraws(params.get("seed", 0))
    given = {k: v for k, v in params.items() if k != "seed"}
    given.setdefault("top_k", 0)
    given.setdefault("do_sample", False)
    try:
        out = model.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long), use_cache=False,
            return_dict_in_generate=True, output_scores=True, **given,
        )  # fmt: skip
    finally:
        torch.multinomial = kept
    rows = out.sequences[:, len(prompt) :].tolist()
    eos = params.get("eos_token_id", [])
    rows = [next((row[: i + 1] for i, t in enumerate(row) if t in eos), row) for row in rows]
    if params.get("num_beams", 1) == 1:
        return rows, []
    return rows, [number(x) for x in out.sequences_scores]


def decoding_params(r):
    rnd = r.random
    params = dict(max_new_tokens=rnd.randrange(1, 10))
    if rnd.random() < 0.85:
        params["num_beams"] = rnd.randrange(2, 5)
        params["num_return_sequences"] = rnd.randrange(1, params["num_beams"] + 1)
        params["early_stopping"] = rnd.choice([False, True, "never"])
        params["length_penalty"] = rnd.choice([-1.0, 0.0, 0.5, 1.0, 2.0])
    params["eos_token_id"] = rnd.choice([[0], [1], [0, 3], [2, 4, 5]])
    if rnd.random() < 0.4:
        params["pad_token_id"] = rnd.choice([0, 7])
    choices = [
        dict(repetition_penalty=round(rnd.uniform(0.7, 1.8), 2)),
        dict(no_repeat_ngram_size=rnd.randrange(1, 4)),
        dict(min_new_tokens=rnd.randrange(1, 5)),
        dict(bad_words_ids=[[rnd.randrange(6)], [rnd.randrange(6), rnd.randrange(6)]]),
        dict(renormalize_logits=True, suppress_tokens=[rnd.randrange(6, 12)]),
        dict(forced_eos_token_id=params["eos_token_id"][:1]),
        dict(sequence_bias=[[[1, 2], 1.5], [[4], -0.75]]),
        dict(exponential_decay_length_penalty=[1, 1.2]),
    ]
    for choice in rnd.sample(choices, rnd.choice([0, 0, 1, 2])):
        params.update(choice)
    if rnd.random() < 0.3:
        params.update(do_sample=True, seed=rnd.randrange(2**40))
        warpers = [dict(temperature=round(rnd.uniform(0.4, 1.7), 2)), dict(top_k=rnd.randrange(2, 9)), dict(top_p=0.83), dict(min_p=0.05)]
        for choice in rnd.sample(warpers, rnd.choice([0, 1, 2])):
            params.update(choice)
    return params


def decoding_cases(count):
    r = Rows(20262)
    cases, tied = [], 0
    while len(cases) < count:
        vocab = r.random.randrange(12, 22)
        table = [[round(r.random.gauss(0, 2), 2) for _ in range(vocab)] for _ in range(vocab)]
        prompt = r.ids(r.random.randrange(1, 4), vocab)
        params = decoding_params(r)
        try:
            ids, scores = decode(table, prompt, params)
        except Tied:
            tied += 1
            continue
        cases.append(dict(params=params, prompt=prompt, table=table, ids=ids, scores=scores))
    print("left out for ties:", tied)
    return cases


def lookup_cases(count):
    r = Rows(20263)
    rnd = r.random
    cases = []
    while len(cases) < count:
        ids = r.ids(rnd.randrange(1, 30), rnd.choice([3, 5, 9]))
        draft, ngram, room = rnd.randrange(1, 9), rnd.randrange(1, 5), rnd.randrange(1, 14)
        params = rnd.choice([{}, dict(no_repeat_ngram_size=3), dict(bad_words_ids=[[1], [0, 2]]), dict(suppress_tokens=[2])])
        max_length = len(ids) + room
        eos = rnd.choice([None, [0], [1, 2]])
        generator = PromptLookupCandidateGenerator(
            eos_token_id=torch.tensor(eos) if eos else None, num_output_tokens=draft, max_matching_ngram_size=ngram,
            max_length=max_length, logits_processor=processor_list(params, len(ids), 0, max_length), vocab_size=9,
        )  # fmt: skip
        found = generator.get_candidates(torch.tensor([ids]))[0][0, len(ids) :].tolist()
        # What does not fit is cut after verification there, before it here.
        found = found[: room - 1]
        cases.append(
            dict(ids=ids, params=params, eos=eos or [], draft_tokens=draft, matching_ngram=ngram, max_length=max_length, expected=found)
        )
    return cases


def write(name, value):
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in value)
    (OUT / name).write_text("[\n" + lines + "\n]\n")
    print(name, len(value), "cases", (OUT / name).stat().st_size, "bytes")


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    pins.settle()
    write("processors.json", processor_rows())
    write("decoding.json", decoding_cases(300))
    write("lookup.json", lookup_cases(200))


if __name__ == "__main__":
    main()

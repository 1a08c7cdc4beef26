"""Runs transformers' generate() with knobs combined at random, on left-padded batches and with stop strings:
tests/fixtures/golden/generation_combined.json.

Kept are runs that a small noise on the scores does not change, as in generation_cases.py. A batch whose rows come out
otherwise alone is kept too, under "by_rule": there pads count as tokens.
"""

import json
import pathlib
import random
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import pins
from generation_cases import Runner, steady

MODELS = ["llama-gqa", "gemma2-caps", "phi-partial", "qwen3-qk-norm"]
TOKENIZER = pins.ROOT / "tests" / "fixtures" / "text" / "byte_level"
COMBINED, BATCHES, STOPS = 60, 14, 8  # of each model
NEW_TOKENS = 20
PAD = 0
PROMPT_NAMES = ["p1", "p7", "p33"]


def draw(rng, plain, beams):
    """A few knobs at once; ids come from the model's own plain run, so that bans and stops bite."""
    distinct = list(dict.fromkeys(plain))
    params = {"do_sample": False, "num_beams": beams, "max_new_tokens": NEW_TOKENS, "pad_token_id": PAD}
    stops = rng.choice([[], [plain[9]], [plain[6], plain[13]], rng.sample(distinct, min(3, len(distinct)))])
    if stops:
        params["eos_token_id"] = list(dict.fromkeys(stops))
        params["pad_token_id"] = rng.choice([PAD, stops[0]])
        if rng.random() < 0.3:
            params["min_new_tokens"] = rng.randint(2, 12)
        if rng.random() < 0.2:
            params["exponential_decay_length_penalty"] = [rng.randint(1, 6), rng.choice([1.1, 1.4])]
    if rng.random() < 0.5:
        params["repetition_penalty"] = rng.choice([0.8, 1.1, 1.3, 1.7])
    if rng.random() < 0.5:
        params["no_repeat_ngram_size"] = rng.choice([1, 2, 3, 4])
    if rng.random() < 0.3:
        params["bad_words_ids"] = [[distinct[0]], plain[2:4]]
    if rng.random() < 0.25:
        params["suppress_tokens"] = distinct[1:3]
    if rng.random() < 0.2:
        params["begin_suppress_tokens"] = distinct[:1]
    if rng.random() < 0.2:
        params["sequence_bias"] = [[distinct[:1], -2.5], [plain[4:6], 3.0]]
    if rng.random() < 0.2:
        params["renormalize_logits"] = True
    if rng.random() < 0.15 and plain[5] not in params.get("suppress_tokens", []):
        params["forced_eos_token_id"] = [plain[5]]
    if beams > 1:
        params["early_stopping"] = rng.choice([False, True, "never"])
        params["length_penalty"] = rng.choice([-0.5, 0.0, 1.0, 1.8])
        params["num_return_sequences"] = rng.randint(1, beams)
    return params


def combined_cases(runner, rng):
    cases = []
    while len(cases) < COMBINED:
        prompt = rng.choice(PROMPT_NAMES)
        params = draw(rng, runner.golden[prompt]["greedy"], rng.choice([1, 1, 2, 3, 4]))
        case = steady(runner, prompt, params)
        if case is not None:
            cases.append({"kind": "combined", "name": str(len(cases)), "model": runner.folder, "prompt": prompt, "params": params, **case})
    return cases


def generate(runner, rows, params, noise_seed=None):
    """Ids of each row (of each returned sequence), run as one left-padded batch."""
    import torch
    from generation_cases import Noise
    from transformers import LogitsProcessorList

    width = max(map(len, rows))
    ids = torch.tensor([[PAD] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    known = dict(params)
    if "sequence_bias" in known:
        known["sequence_bias"] = {tuple(tokens): bias for tokens, bias in known["sequence_bias"]}
    if "exponential_decay_length_penalty" in known:
        known["exponential_decay_length_penalty"] = tuple(known["exponential_decay_length_penalty"])
    processors = LogitsProcessorList([Noise(noise_seed)] if noise_seed is not None else [])
    out = runner.model.generate(
        ids, attention_mask=mask, logits_processor=processors, output_scores=True, return_dict_in_generate=True, **known
    )
    stops = set(params.get("eos_token_id", []))
    sequences = []
    for row in out.sequences[:, width:].tolist():
        end = next((i + 1 for i, token in enumerate(row) if token in stops), len(row))
        sequences.append(row[:end])
    each = params.get("num_return_sequences", 1)
    scores = [float(f"{s:.7g}") for s in out.sequences_scores.tolist()] if params["num_beams"] > 1 else None
    return [
        {"ids": sequences[i : i + each], **({"scores": scores[i : i + each]} if scores else {})}
        for i in range(0, len(sequences), each)
    ]


def ids_only(rows):
    return [row["ids"] for row in rows]


def batch_cases(runner, rng):
    cases = []
    vocab = runner.model.config.vocab_size
    while len(cases) < BATCHES:
        names = rng.sample(PROMPT_NAMES, 2)
        prompts = [runner.golden[name]["ids"] for name in names]
        prompts += [[rng.randint(3, vocab - 1) for _ in range(rng.randint(2, 24))] for _ in range(2)]
        params = draw(rng, runner.golden[names[0]]["greedy"], rng.choice([1, 1, 3]))
        rows = generate(runner, prompts, params)
        if any(ids_only(generate(runner, prompts, params, seed)) != ids_only(rows) for seed in (1, 2)):
            continue
        alone = [generate(runner, [prompt], params)[0] for prompt in prompts]
        by_rule = [i for i, (a, b) in enumerate(zip(rows, alone)) if a["ids"] != b["ids"]]
        cases.append({
            "kind": "batch", "name": str(len(cases)), "model": runner.folder, "params": params,
            "prompts": prompts, "rows": rows, "by_rule": by_rule,
        })
    return cases


def stop_cases(runner, tokenizer, rng):
    """Stop strings cut out of the plain answer's text: they span tokens and end inside of them."""
    import torch

    cases = []
    while len(cases) < STOPS:
        prompt = rng.choice(PROMPT_NAMES)
        plain = runner.golden[prompt]["greedy"]
        beams = rng.choice([1, 1, 3])
        params = {"do_sample": False, "num_beams": beams, "max_new_tokens": NEW_TOKENS, "pad_token_id": PAD}
        if rng.random() < 0.4:
            params["repetition_penalty"] = 1.2
        ids = torch.tensor([runner.golden[prompt]["ids"]])
        text = tokenizer.decode(runner.generate(prompt, params).sequences[0, ids.shape[1] :])
        start = rng.randint(2, max(2, len(text) - 6))
        stop = text[start : start + rng.randint(1, 5)]
        if not stop.strip() or "\ufffd" in stop or stop in tokenizer.decode(ids[0]):
            continue
        params["stop_strings"] = [stop, "never to be seen"]
        out = runner.model.generate(
            ids, attention_mask=torch.ones_like(ids), tokenizer=tokenizer, output_scores=True, return_dict_in_generate=True, **params
        )
        row = out.sequences[0, ids.shape[1] :].tolist()
        case = {"kind": "stop", "name": str(len(cases)), "model": runner.folder, "prompt": prompt, "params": params, "ids": [row]}
        if beams > 1:
            case["scores"] = [float(f"{out.sequences_scores[0].item():.7g}")]
        cases.append(case)
    return cases


def main():
    pins.settle()
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    cases = []
    for index, folder in enumerate(MODELS):
        runner, rng = Runner(folder), random.Random(index + 1)
        cases += combined_cases(runner, rng) + batch_cases(runner, rng) + stop_cases(runner, tokenizer, rng)
        by_rule = sum(len(case.get("by_rule", [])) for case in cases)
        print(f"{folder}: {len(cases)} cases so far, {by_rule} rows differ by rule", flush=True)
    lines = ",\n".join(json.dumps(case, separators=(",", ":"), sort_keys=True) for case in cases)
    text = '{"transformers":"5.23.0","cases":[\n' + lines + "\n]}\n"
    (pins.FIXTURES / "generation_combined.json").write_text(text)
    print(f"{len(cases)} cases, {len(text)} bytes")


if __name__ == "__main__":
    main()

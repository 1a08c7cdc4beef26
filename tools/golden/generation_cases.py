"""Runs transformers' generate() over a grid of knobs on three tiny models: tests/fixtures/golden/generation.json.

Kept are runs that a small noise on the scores does not change; the prompt is exchanged otherwise. Knows the tiny models
only by their folders.
"""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import pins

MODELS = ["llama-gqa", "gemma2-caps", "phi-partial"]
BEAM_MODELS = ["llama-gqa", "gemma2-caps"]
NEW_TOKENS = 32
BEAM_TOKENS = 20
NOISE = 3e-4
PROMPTS = ["p7", "p33", "p1", "long"]
KEPT_PROBABILITIES = 40


class Runner:
    """One tiny model and its golden prompts."""

    def __init__(self, folder):
        import tiny

        directory = pins.FIXTURES / folder
        self.folder = folder
        self.golden = json.loads((directory / "golden.json").read_text())["float32"]
        self.model = tiny.load(directory, "float32")
        self.model.generation_config.eos_token_id = None
        self.model.generation_config.pad_token_id = 0

    def generate(self, prompt, params, noise_seed=None):
        import torch
        from transformers import LogitsProcessorList

        ids = torch.tensor([self.golden[prompt]["ids"]])
        processors = LogitsProcessorList([Noise(noise_seed)] if noise_seed is not None else [])
        known = dict(params)
        if "sequence_bias" in known:
            known["sequence_bias"] = {tuple(tokens): bias for tokens, bias in known["sequence_bias"]}
        if "exponential_decay_length_penalty" in known:
            known["exponential_decay_length_penalty"] = tuple(known["exponential_decay_length_penalty"])
        return self.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            logits_processor=processors,
            output_scores=True,
            return_dict_in_generate=True,
            **known,
        )

    def ids_of(self, out, prompt, params):
        """Output ids of each sequence, cut after its first stop id: what follows is padding."""
        stops = set(params.get("eos_token_id", []))
        sequences = []
        for row in out.sequences[:, len(self.golden[prompt]["ids"]) :].tolist():
            end = next((i + 1 for i, token in enumerate(row) if token in stops), len(row))
            sequences.append(row[:end])
        return sequences


class Noise:
    """Adds a little to every score: a run that it changes has a near tie somewhere."""

    def __init__(self, seed):
        import torch

        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, input_ids, scores):
        import torch

        return scores + NOISE * torch.randn(scores.shape, generator=self.generator)


def steady(runner, prompt, params):
    """The case, or None where noise changes it."""
    out = runner.generate(prompt, params)
    ids = runner.ids_of(out, prompt, params)
    for seed in (1, 2, 3):
        if runner.ids_of(runner.generate(prompt, params, seed), prompt, params) != ids:
            return None
    case = {"ids": ids}
    if params.get("num_beams", 1) > 1:
        case["scores"] = [float(f"{score:.7g}") for score in out.sequences_scores.tolist()]
    return case


def search_cases(runner, kind, grid_of, length):
    plain = runner.golden["p33"]["greedy"]
    cases = []
    for index, name in enumerate(grid_of([0, 0, 0, 0], list(range(7)))):
        order = PROMPTS[index % 2 :] + PROMPTS[: index % 2]
        for prompt in order:
            own = runner.golden[prompt]["greedy"]
            distinct = list(dict.fromkeys(own + plain + list(range(3, 20))))
            stops = [own[9], own[17], plain[4], distinct[-1]]
            given = grid_of(list(dict.fromkeys(stops)), distinct[:7])[name]
            params = {"do_sample": False, "num_beams": 1, "max_new_tokens": length, **given}
            case = steady(runner, prompt, params)
            if case is not None:
                cases.append({"kind": kind, "name": name, "model": runner.folder, "prompt": prompt, "params": params, **case})
                break
        else:
            print(f"{runner.folder} {kind} {name}: near ties with every prompt, left out", file=sys.stderr)
    return cases


def distribution(runner, prompt, name, given):
    """What is drawn from at the first step: ids with their probabilities, best first, and how many are possible."""
    import torch

    params = {"do_sample": True, "num_beams": 1, "max_new_tokens": 1, **given}
    torch.manual_seed(0)
    scores = runner.generate(prompt, params).scores[0][0]
    probabilities = torch.softmax(scores, dim=-1)
    order = torch.sort(probabilities, descending=True, stable=True)
    kept = int(torch.isfinite(scores).sum())
    rows = zip(order.indices.tolist(), order.values.tolist())
    top = [[token, float(f"{value:.7g}")] for token, value in list(rows)[: min(kept, KEPT_PROBABILITIES)]]
    return {
        "kind": "distribution",
        "name": name,
        "model": runner.folder,
        "prompt": prompt,
        "params": params,
        "kept": kept,
        "probs": top,
    }


def main():
    pins.settle()
    import generation_grid as grids

    cases = []
    for folder in MODELS:
        runner = Runner(folder)
        cases += search_cases(runner, "greedy", grids.greedy_grid, NEW_TOKENS)
        if folder in BEAM_MODELS:
            cases += search_cases(runner, "beam", grids.beam_grid, BEAM_TOKENS)
        for prompt in ("p7", "p33"):
            cases += [distribution(runner, prompt, name, given) for name, given in grids.warper_grid().items()]
        print(f"{folder}: {len(cases)} cases so far", flush=True)
    lines = ",\n".join(json.dumps(case, separators=(",", ":"), sort_keys=True) for case in cases)
    text = '{"transformers":"5.23.0","cases":[\n' + lines + "\n]}\n"
    (pins.FIXTURES / "generation.json").write_text(text)
    print(f"{len(cases)} cases, {len(text)} bytes")


if __name__ == "__main__":
    main()

"""Shows why some seeds of BitNet's tiny models give other logits here than in transformers: an activation on a rounding tie.

    bitnet_ties.py RHAPSODE [FOLDER [SEED ...]]

RHAPSODE is the program. Without a seed: the `tied_seeds` that make_models.py does not take, of all folders or of the one
named.

Activations become integers, round(x * 127 / absmax). Where x * 127 / absmax lies at a half, the last bit of a float32 sum
decides between two codes, and a row of logits moves by a percent. For each row that is apart by more than the golden
tests allow, the nearest ties of that token are flipped in transformers, one after the other: the row has to come
within the tests' tolerance of ours, by flips of values that lie closer to their tie than NOISE. Fails where it does not,
and where one of `tied_seeds` has no row apart.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import pins

TOLERANCE = 1e-4  # of a row's norm: that of tests/golden/decoder_golden_test.cpp
NOISE = 2e-4  # of a code: what the order of float32 sums moves a value by that is at most 127
GROUPS = ("qkv", "qkv", "qkv", "o", "gate and up", "gate and up", "down")


class Codes:
    """Takes the place of both classes' rounding: keeps how far each value is from its tie, and turns chosen ones over."""

    def __init__(self):
        self.flips = {}  # (layer, group, token, column): +1 or -1
        self.clear()

    def clear(self):
        self.calls = 0
        self.near = {}  # (layer, group, token, column): (distance from the tie, the value before rounding)

    def round(self, scaled):
        import torch

        layer, group = divmod(self.calls, len(GROUPS))
        self.calls += 1
        codes = scaled.round()
        rows = scaled.reshape(-1, scaled.shape[-1])
        distance = ((rows - rows.floor()) - 0.5).abs()
        for token, column in torch.argwhere(distance < NOISE).tolist():
            key = (layer, GROUPS[group], token, column)
            self.near[key] = (distance[token, column].item(), rows[token, column].item())
            if key in self.flips:
                value = rows[token, column]
                codes.reshape(rows.shape)[token, column] = value.floor() + value.ceil() - value.round()
        return codes

    def install(self):
        from transformers.integrations import bitnet

        def act_quant(_, activation):
            x = activation.float()
            scale = 127 / x.abs().max(dim=-1, keepdim=True).values.clamp_(min=1e-5)
            return (self.round(x * scale).clamp(-128, 127) / scale).to(activation.dtype)

        def activation_quant(_, x, num_bits=8):
            scale = 127 / x.abs().max(dim=-1, keepdim=True).values.clamp(min=1e-5)
            return self.round(x * scale).clamp(-128, 127), scale

        bitnet.ActQuant.forward = staticmethod(act_quant)
        bitnet.BitLinear.activation_quant = activation_quant


def ours(program, directory, ids, vocab):
    """Our logits at every position, [T, V]: of each prefix those of its last token."""
    import torch

    with tempfile.TemporaryDirectory() as scratch:
        config, prompts = pathlib.Path(scratch, "config.yaml"), pathlib.Path(scratch, "prompts.jsonl")
        config.write_text(
            "generator:\n  active_model: tiny\n  models:\n    tiny:\n      type: huggingface\n"
            f'      model_id: "{directory}"\n      torch_dtype: float32\n      do_sample: false\n'
            "      numerics: hf-exact\n      max_new_tokens: 1\n"
        )
        prompts.write_text("".join(json.dumps({"ids": ids[: n + 1]}) + "\n" for n in range(len(ids))))
        command = [program, "run", "-c", config, "--prompts-file", prompts, "--json", "--trace", str(vocab), "--quiet"]
        out = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    logits = torch.empty(len(ids), vocab)
    for row, result in zip(logits, out["results"], strict=True):
        for token, logit in result["steps"][0]["top"]:
            row[token] = logit
    return logits


def errors(found, expected):
    return (found - expected).norm(dim=-1) / expected.norm(dim=-1)


def explain(model, codes, ids, found):
    """How many flips bring transformers to our logits; prints each. None where a row stays apart."""
    import torch

    def run():
        codes.clear()
        with torch.no_grad():
            return errors(found, model(torch.tensor([ids])).logits[0])

    codes.flips = set()
    apart = run()
    print(f"  {(apart > TOLERANCE).sum()} of {len(ids)} rows apart, the largest by {apart.max():.1e}")
    while (apart > TOLERANCE).any():
        token = int((apart > TOLERANCE).nonzero()[0])
        near = sorted((v, k) for k, v in codes.near.items() if k[2] == token and k not in codes.flips)
        for (distance, value), key in near:
            codes.flips.add(key)
            after = run()
            if after[token] < apart[token] / 2:
                break
            codes.flips.remove(key)
        else:
            print(f"  position {token}, {apart[token]:.1e} apart: no value closer to a tie than {NOISE} explains it")
            return None
        layer, group, _, column = key
        ulp = torch.finfo(torch.float32).eps * 2 ** torch.tensor(abs(value)).log2().floor().item()
        print(
            f"  position {token}: layer {layer}, input of {group}, column {column}: {value:.6f} is {distance:.1e}"
            f" ({distance / ulp:.0f} ulp) from its tie; turned over, the row is {after[token]:.1e} apart, not {apart[token]:.1e}"
        )
        apart = after
    print(f"  {len(codes.flips)} ties turned over: the largest row is {apart.max():.1e} apart")
    return len(codes.flips)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    program, folder, seeds = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None, [int(s) for s in sys.argv[3:]]
    pins.settle()
    import bitnet
    import record
    import tiny

    codes, wrong = Codes(), []
    codes.install()
    for variant in bitnet.VARIANTS:
        if variant.primary != "float32" or variant.after_write is None or folder not in (None, variant.folder):
            continue
        for seed in seeds or variant.tied_seeds:
            vocab, flips = variant.config["vocab_size"], []
            with tempfile.TemporaryDirectory() as directory:
                tiny.write(pathlib.Path(directory), variant, seed)
                model = tiny.load(directory, "float32")
                for name, ids in record.make_prompts(vocab, variant.long_length, seed).items():
                    print(f"{variant.folder} seed {seed} prompt {name}")
                    flips.append(explain(model, codes, ids, ours(program, directory, ids, vocab)))
            if None in flips or (seed in variant.tied_seeds and sum(flips) == 0):
                wrong.append(f"{variant.folder} seed {seed}")
    sys.exit(f"not explained by a tie: {', '.join(wrong)}" if wrong else 0)


if __name__ == "__main__":
    main()

"""Owns what a golden result of a tiny model is: prompts, logits, hidden states, greedy ids, margins.

Knows nothing of families. The layout of the two files is described in README.md beside this script.
"""

import contextlib
import importlib
import json

import torch
from safetensors.torch import save_file

import tiny

NEW_TOKENS = 64
MIN_MARGIN = 1e-3


class NotUsable(Exception):
    """This seed gives near ties or a dull continuation; the next one is tried."""


def make_prompts(vocab, long_length, seed):
    generator = torch.Generator().manual_seed(seed)
    lengths = {"p1": 1, "p7": 7, "p33": 33, "long": long_length}
    return {n: torch.randint(3, vocab, (k,), generator=generator).tolist() for n, k in lengths.items()}


def layers_of(model):
    base = model.base_model
    layers = base.layers if hasattr(base, "layers") else base.h
    for name in ("norm", "final_layernorm", "ln_f", "final_layer_norm"):
        if hasattr(base, name):
            return layers, getattr(base, name)
    raise AttributeError("no final norm")


def forward(directory, dtype, ids):
    """Logits [T, V] and hidden states [L + 2, T, h]: the input of layer 0, each layer's output, the final norm's."""
    model = tiny.load(directory, dtype)
    layers, norm = layers_of(model)
    seen = []

    def keep_input(_, args, kwargs):
        seen.append((args[0] if args else kwargs["hidden_states"]).detach()[0])

    def keep_output(_, __, out):
        seen.append((out[0] if isinstance(out, tuple) else out).detach().reshape(len(ids), -1))

    layers[0].register_forward_pre_hook(keep_input, with_kwargs=True)
    for module in [*layers, norm]:
        module.register_forward_hook(keep_output)
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0]
    return logits.float(), torch.stack(seen).float()


def greedy(directory, dtype, ids, eos=None):
    """The ids after the prompt, the gap between the two best logits at each step, and the last step's logits."""
    model = tiny.load(directory, dtype)
    model.generation_config.eos_token_id = eos
    model.generation_config.pad_token_id = 0
    out = model.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        do_sample=False,
        max_new_tokens=NEW_TOKENS,
        output_logits=True,
        return_dict_in_generate=True,
    )
    rows = torch.cat(out.logits).float()
    best = rows.topk(2, dim=-1).values
    return out.sequences[0, len(ids) :].tolist(), (best[:, 0] - best[:, 1]).tolist(), rows[-1]


def choose_eos(ids, vocab):
    """A stop id that first appears well inside the run, and one that never does."""
    first = {token: ids.index(token) for token in ids[:41]}
    inside = max(first, key=first.get)
    absent = next(token for token in range(vocab - 1, 0, -1) if token not in ids)
    return [absent, inside]


def rounded(values):
    return [float(f"{value:.4g}") for value in values]


def usable_runs(directory, variant, prompts):
    """Greedy runs of all prompts, the cheapest first."""
    dtype, runs = variant.primary, {}
    for name, ids in sorted(prompts.items(), key=lambda item: len(item[1])):
        out, margins, last = greedy(directory, dtype, ids)
        tied = dtype == "float32" and min(margins) < MIN_MARGIN
        if tied or (name != "p1" and len(set(out)) < variant.distinct):
            raise NotUsable(f"{name}: margin {min(margins):.2e}, {len(set(out))} distinct ids")
        runs[name] = out, margins, last
    return runs


def record_primary(directory, variant, prompts):
    vocab, dtype = variant.config["vocab_size"], variant.primary
    results, tensors = {}, {}
    for name, (out, margins, last) in usable_runs(directory, variant, prompts).items():
        ids = prompts[name]
        logits, hidden = forward(directory, dtype, ids)
        eos = choose_eos(out, vocab)
        stopped, _, _ = greedy(directory, dtype, ids, eos)
        positions = list(range(len(ids)))
        if name == "long" and not variant.whole:
            positions = sorted(set(positions[:: variant.every]) | {len(ids) - 1})
        results[name] = {
            "ids": ids,
            "logit_positions": positions,
            "greedy": out,
            "margins": rounded(margins),
            "eos": eos,
            "greedy_eos": stopped,
        }
        tensors[f"{name}.logits"] = logits[positions].contiguous()
        tensors[f"{name}.last_step_logits"] = last.contiguous()
        kept = {"p7": list(range(7)), "p33": [0, 8, 16, 24, 32]}.get(name, [])
        if kept:
            results[name]["hidden_positions"] = kept
            tensors[f"{name}.hidden"] = hidden[:, kept].contiguous()
    return results, tensors


def record_16bit(directory, dtype, prompts):
    results, tensors = {}, {}
    for name, ids in prompts.items():
        logits, _ = forward(directory, dtype, ids)
        out, margins, _ = greedy(directory, dtype, ids)
        results[name] = {"greedy": out, "margins": rounded(margins)}
        tensors[f"{name}.{dtype}.last_logits"] = logits[-1].contiguous()
    return results, tensors


@contextlib.contextmanager
def float32_attention(model_type):
    """Eager attention whose scores and probabilities stay in float32, as this project computes them."""
    modeling = importlib.import_module(f"transformers.models.{model_type}.modeling_{model_type}")

    def attend(module, query, key, value, mask, scaling, dropout=0.0, **_):
        key = modeling.repeat_kv(key, module.num_key_value_groups).float()
        value = modeling.repeat_kv(value, module.num_key_value_groups).float()
        scores = torch.matmul(query.float(), key.transpose(2, 3)) * scaling
        if mask is not None:
            scores = scores + mask.float()
        probabilities = torch.softmax(scores, dim=-1)
        return torch.matmul(probabilities, value).to(query.dtype).transpose(1, 2).contiguous(), probabilities

    eager = modeling.eager_attention_forward
    modeling.eager_attention_forward = attend
    try:
        yield
    finally:
        modeling.eager_attention_forward = eager


def record_float32_attention(directory, variant, prompts):
    """Of models whose one dtype has 16 bits: nothing but the order of sums is left to differ."""
    results, tensors = {}, {}
    with float32_attention(variant.family):
        for name, ids in prompts.items():
            logits, _ = forward(directory, variant.primary, ids)
            out, margins, _ = greedy(directory, variant.primary, ids)
            results[name] = {"greedy": out, "margins": rounded(margins)}
            tensors[f"{name}.float32_attention.last_logits"] = logits[-1].contiguous()
    return results, tensors


def record(directory, variant, seed):
    prompts = make_prompts(variant.config["vocab_size"], variant.long_length, seed)
    golden = {
        "made_with": {"transformers": "5.23.0", "torch": "2.15.0"},
        "family": variant.family,
        "variant": variant.name,
        "seed": seed,
        "attention": "eager",
        "stored": variant.stored,
        "primary": variant.primary,
        "new_tokens": NEW_TOKENS,
    }
    golden[variant.primary], tensors = record_primary(directory, variant, prompts)
    for dtype in variant.dtypes:
        golden[dtype], more = record_16bit(directory, dtype, prompts)
        tensors |= more
    if variant.primary != "float32":
        golden["float32_attention"], more = record_float32_attention(directory, variant, prompts)
        tensors |= more
    save_file(tensors, directory / "golden.safetensors")
    (directory / "golden.safetensors").chmod(0o644)
    (directory / "golden.json").write_text(json.dumps(golden, separators=(",", ":"), sort_keys=True) + "\n")

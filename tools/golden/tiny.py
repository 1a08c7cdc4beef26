"""Owns the making of one tiny checkpoint: a config.json as publishers write it, seeded weights, the files on disk.

Knows nothing of what is recorded from it.
"""

import json
import pathlib
import shutil
import tempfile

import torch
from transformers import AutoConfig, AutoModelForCausalLM

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
ZERO_CENTRED_NORMS = ("gemma", "gemma2", "gemma3_text")


def is_norm(name):
    parts = name.split(".")
    return any("norm" in part or part.startswith("ln_") for part in parts)


def fill(model, seed, spread):
    """Weights big enough that neither logits nor attention are flat: wrong code must show.

    A linear keeps a signal of size one at `spread`; norms lie around their neutral weight, biases are not zero.
    """
    generator = torch.Generator().manual_seed(seed)
    neutral = 0.0 if model.config.model_type in ZERO_CENTRED_NORMS else 1.0
    # A tied head must not merely repeat the last token: the layers have to outweigh the embedding, scaled or not.
    embedding = 1.0 if not model.config.tie_word_embeddings else 0.25 if neutral else 0.1
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            noise = torch.randn(weight.shape, generator=generator, dtype=torch.float32)
            if name.endswith(".bias"):
                weight.copy_(noise * 0.3)
            elif is_norm(name):
                weight.copy_(neutral + noise * 0.3)
            elif "embed" in name and "embed_out" not in name:  # embed_tokens, word_embeddings, embed_in
                weight.copy_(noise * embedding)
            else:
                weight.copy_(noise * (spread / weight.shape[-1] ** 0.5))


def write(directory, variant, seed):
    """The checkpoint of `variant` with the weights of `seed`; replaces what the directory held."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    config = dict(variant.config, torch_dtype=variant.stored)
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    parsed = AutoConfig.from_pretrained(directory)
    model = AutoModelForCausalLM.from_config(parsed, dtype=torch.float32, attn_implementation="eager")
    fill(model, seed, variant.spread)
    model = model.to(DTYPES[variant.stored])
    with tempfile.TemporaryDirectory() as scratch:
        model.save_pretrained(scratch, max_shard_size=variant.shard_size or "1GB")
        for file in sorted(pathlib.Path(scratch).iterdir()):
            wanted = file.name.startswith("model") or (variant.config_style == "saved" and file.name == "config.json")
            if wanted:
                shutil.copyfile(file, directory / file.name)
    if variant.after_write is not None:
        variant.after_write(directory)


def load(directory, dtype=None):
    """A fresh model: rotary tables that grow with use must never outlive one run. dtype None: the file's own."""
    return AutoModelForCausalLM.from_pretrained(
        directory, dtype=DTYPES[dtype] if dtype else "auto", attn_implementation="eager"
    ).eval()

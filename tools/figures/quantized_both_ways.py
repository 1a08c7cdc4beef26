#!/usr/bin/env python3
"""What `rhapsode quantize --out` writes, read by transformers with bitsandbytes, beside its own quantizing while it loads.

    quantized_both_ways.py RHAPSODE CHECKPOINT [--tokens N]

Runs in a Python that has the judges (./dev setup all). Of 8bit and of 4bit (NF4, double quantization): every tensor of the two state
dicts, and greedy answers to three prompts. Exit code 1 where a tensor of codes or plain values, or an answer differs; scales of double
quantization may be neighbours (docs/quantization.md), and how far they are is printed.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

PROMPTS = ["What is the capital of France?", "Write a haiku about rain.", "List three uses of a paper clip."]
KINDS = {
    "8bit": {"load_in_8bit": True},
    "4bit": {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": torch.bfloat16,
    },
}
# Of double quantization: the table, the scales made with it, and the state that holds their mean.
NESTED = ("absmax", "nested_absmax", "nested_quant_map", "quant_state.bitsandbytes__nf4")


def written(binary, checkpoint, kind, scratch):
    config = os.path.join(scratch, kind + ".yaml")
    with open(config, "w") as file:
        file.write(
            f"generator:\n  active_model: m\n  models:\n    m:\n      model_id: {json.dumps(checkpoint)}\n"
            f'      torch_dtype: bfloat16\n      quantization: "{kind}"\n'
        )
    out = os.path.join(scratch, kind)
    subprocess.run([binary, "quantize", "-c", config, "--out", out, "-q"], check=True, stdout=subprocess.DEVNULL)
    return out


def compare(ours, theirs):
    """Names equal; (tensors, of them equal bit for bit, names that differ)."""
    if ours.keys() != theirs.keys():
        sys.exit(f"other tensors: {sorted(ours.keys() ^ theirs.keys())[:5]}")
    differ = []
    for name, tensor in ours.items():
        other = theirs[name]
        same = tensor.dtype == other.dtype and tensor.shape == other.shape
        if not same or not torch.equal(tensor.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8)):
            differ.append(name)
    return len(ours), differ


def scale_distance(ours, theirs):
    """Largest difference of a weight, over the largest weight of its matrix."""
    import bitsandbytes

    most = 0.0
    pairs = dict(theirs.named_modules())
    for name, module in ours.named_modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            a, b = (
                bitsandbytes.functional.dequantize_4bit(m.weight.data, m.weight.quant_state).float()
                for m in (module, pairs[name])
            )
            most = max(most, ((a - b).abs().max() / b.abs().max()).item())
    return most


def answers(model, tokenizer, tokens):
    out = []
    for prompt in PROMPTS:
        text = tokenizer.apply_chat_template([{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True)
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)
        made = model.generate(**ids, do_sample=False, max_new_tokens=tokens, pad_token_id=tokenizer.pad_token_id)
        out.append(made[0, ids["input_ids"].shape[1] :].tolist())
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("checkpoint")
    parser.add_argument("--tokens", type=int, default=48)
    given = parser.parse_args()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    tokenizer = AutoTokenizer.from_pretrained(given.checkpoint)
    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        for kind, settings in KINDS.items():
            directory = written(given.binary, os.path.abspath(given.checkpoint), kind, scratch)
            ours = AutoModelForCausalLM.from_pretrained(directory, device_map="cpu").eval()
            theirs = AutoModelForCausalLM.from_pretrained(
                given.checkpoint, device_map="cpu", dtype=torch.bfloat16, quantization_config=BitsAndBytesConfig(**settings)
            ).eval()
            count, differ = compare(ours.state_dict(), theirs.state_dict())
            nested = [name for name in differ if kind == "4bit" and name.endswith(NESTED)]
            print(f"{kind}: {count} tensors, {count - len(differ)} equal bit for bit, {len(nested)} of double quantization differ")
            if kind == "4bit":
                print(f"  largest difference of a weight: {scale_distance(ours, theirs):.3g} of its matrix's largest")
            for name in [name for name in differ if name not in nested][:5]:
                print(f"  differs: {name}")
            a, b = (answers(model, tokenizer, given.tokens) for model in (ours, theirs))
            lengths = [next((i for i, (x, y) in enumerate(zip(p, q)) if x != y), max(len(p), len(q))) for p, q in zip(a, b)]
            print(f"  greedy ids: {sum(p == q for p, q in zip(a, b))} of {len(a)} answers equal, equal up to token {lengths}")
            failed |= len(differ) > len(nested) or a != b
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

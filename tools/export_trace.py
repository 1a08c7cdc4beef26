#!/usr/bin/env python3
"""Writes what transformers generates greedily as a trace for `rhapsode parity --against`.

    python tools/export_trace.py MODEL_DIR --ids 1,2,3 --new-tokens 32 --dtype float32 > trace.json
    python tools/export_trace.py MODEL_DIR --prompt "What is the capital of France?" > trace.json

The logits are raw (before any processor); `hidden` is the prompt's last position after the embedding and each layer.
"""
import argparse
import json

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def prompt_ids(args):
    if args.ids:
        return [int(i) for i in args.ids.split(",")]
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    if tokenizer.chat_template is None or args.raw:
        return tokenizer(args.prompt)["input_ids"]
    messages = [{"role": "user", "content": args.prompt}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--ids")
    source.add_argument("--prompt")
    parser.add_argument("--raw", action="store_true")
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--top", type=int, default=10)
    parser.add_argument("--dtype", default="float32", choices=["float32", "float16", "bfloat16"])
    args = parser.parse_args()

    model = AutoModelForCausalLM.from_pretrained(
        args.model, dtype=getattr(torch, args.dtype), attn_implementation="eager").eval()
    ids = prompt_ids(args)
    prompt = torch.tensor([ids])
    last = []  # what the last layer gives: the model's own list of hidden states ends with the normed one
    base = model.base_model
    layers = base.layers if hasattr(base, "layers") else base.h
    hook = layers[-1].register_forward_hook(lambda _, __, out: last.append(out[0] if isinstance(out, tuple) else out))
    with torch.no_grad():
        hidden = model(prompt, output_hidden_states=True).hidden_states
        hook.remove()
        out = model.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, num_beams=1, repetition_penalty=1.0,
            max_new_tokens=args.new_tokens, output_logits=True, return_dict_in_generate=True)
    chosen = out.sequences[0, len(ids):].tolist()
    steps = []
    for token, row in zip(chosen, out.logits):
        values, indices = row[0].float().topk(args.top)
        steps.append({"id": token, "top": [[i, v] for i, v in zip(indices.tolist(), values.tolist())]})
    states = [h.reshape(len(ids), -1)[-1].float().tolist() for h in [*hidden[:-1], last[0]]]
    print(json.dumps({"prompt_ids": ids, "output_ids": chosen, "steps": steps, "hidden": states, "dtype": args.dtype}))


if __name__ == "__main__":
    main()

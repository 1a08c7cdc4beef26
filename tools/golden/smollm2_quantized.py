"""What transformers with bitsandbytes makes of the real SmolLM2 in 8 and 4 bits, and transformers alone of it in bfloat16:
tests/fixtures/golden/smollm2/quantized.json.

    smollm2_quantized.py DIRECTORY

DIRECTORY is the checkpoint in float32 that `./dev test real` imports. Perplexity of the text that the plain record
takes, and greedy answers to its chats with the gap between the two best logits at each step. Of int8 also `last_bits`: the
perplexity where each layer's input is moved by a last bit or so. Activations become 8-bit codes, and where one lies on a
rounding tie, or on the outlier threshold, a last bit decides: this is how far two right results are apart.

    smollm2_quantized.py DIRECTORY last_bits
    smollm2_quantized.py DIRECTORY bfloat16

make these alone anew; so does the name of any other case.
"""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import pins
import smollm2

CASES = {
    "nf4-nested": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
    "int8": {"load_in_8bit": True},
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    "fp4": {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"},
    "bfloat16": None,
}
CHAT = "no-system"
NEW_TOKENS = 32
DRAWS = 8
LAST_BIT = 1e-7  # relative; float32 holds 6e-8


def answer(model, ids):
    import torch

    out = model.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        do_sample=False,
        max_new_tokens=NEW_TOKENS,
        eos_token_id=2,
        pad_token_id=2,
        output_logits=True,
        return_dict_in_generate=True,
    )
    best = torch.cat(out.logits).float().topk(2, dim=-1).values
    return {
        "greedy": out.sequences[0, len(ids) :].tolist(),
        "margins": [float(f"{gap:.4g}") for gap in (best[:, 0] - best[:, 1]).tolist()],
    }


def last_bits(model, ids):
    """Mean nll for each draw of the noise."""
    import torch

    generator, draws = torch.Generator(), []

    def disturb(_, args):
        return (args[0] * (1 + LAST_BIT * torch.randn(args[0].shape, generator=generator)), *args[1:])

    hooks = [layer.register_forward_pre_hook(disturb) for layer in model.model.layers]
    for seed in range(DRAWS):
        generator.manual_seed(seed)
        draws.append(smollm2.perplexity(model, ids, 256, 256)["nll"])
        print("last bits", seed, draws[-1], flush=True)
    for hook in hooks:
        hook.remove()
    return draws


def load(directory, settings):
    """Quantized and in float32, or as it is in bfloat16."""
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    if settings is None:
        return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16, attn_implementation="eager").eval()
    return AutoModelForCausalLM.from_pretrained(
        directory,
        dtype=torch.float32,
        attn_implementation="eager",
        quantization_config=BitsAndBytesConfig(**settings),
    ).eval()


def main():
    if len(sys.argv) not in (2, 3) or not set(sys.argv[2:]) <= {"last_bits", *CASES}:
        sys.exit(__doc__)
    directory = pathlib.Path(sys.argv[1]).resolve()
    pins.settle()
    import logging

    from transformers import AutoTokenizer

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    plain = json.loads((pins.FIXTURES / "smollm2" / "golden.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(directory)
    ids = tokenizer.backend_tokenizer.encode(smollm2.TEXT.read_text(), add_special_tokens=False).ids
    golden = {"made_with": plain["made_with"] | {"bitsandbytes": pins.pinned()["bitsandbytes"]}}
    out = pins.FIXTURES / "smollm2" / "quantized.json"
    chosen = CASES
    if sys.argv[2:]:
        name = sys.argv[2] if sys.argv[2] in CASES else "int8"
        golden, chosen = json.loads(out.read_text()), {name: CASES[name]}
    for name, settings in chosen.items():
        model = load(directory, settings)
        if sys.argv[2:] != ["last_bits"]:
            golden[name] = {
                "perplexity": smollm2.perplexity(model, ids, 256, 256),
                "chats": {CHAT: answer(model, plain["chats"][CHAT]["ids"])},
            }
            print(name, golden[name]["perplexity"], flush=True)
        if name == "int8":
            golden[name]["last_bits"] = last_bits(model, ids)
        out.write_text(json.dumps(golden, indent=1, sort_keys=True) + "\n")
    print(out.stat().st_size, "bytes")


if __name__ == "__main__":
    main()

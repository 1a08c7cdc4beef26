"""What transformers makes of real vocabularies: tests/fixtures/golden/vocabularies.json.

    vocabularies.py DIRECTORY      as tools/dev/vocabularies.py fills it

Ids of hard texts with special tokens parsed and as plain text, with and without the post-processor's own, what they
decode to, and chats where the checkpoint has a template. Knows nothing of models.
"""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import pins
import smollm2

TEXTS = smollm2.TEXTS | {
    "one-space": " ",
    "leading": "  leading",
    "tabs": "\ta\t\tb \t c",
    "newlines": "\n\n\n a\n\r\n b\n",
    "runs": "x" * 70 + " " * 70 + "=" * 70 + "\n" * 33 + "ab" * 40,
    "bytes": "\U00012000\U0001f9ff \ue000 \u0378 \U0010fffd",
    "llama-specials": "<s>a</s> b <s> c</s>  d<unk>",
    "llama-3-specials": "<|begin_of_text|>hi<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nx",
    "gemma-specials": "<bos><start_of_turn>user\nhi<end_of_turn>\n<eos> <pad>",
    "qwen-specials": "<|im_start|>system\nx<|im_end|>\n<think>\n\n</think> <tool_call>",
    "metaspace": "▁a ▁ ▁▁b",
    "byte-names": "<0x41><0x0A> <0xFF>",
    "hangul": "한글 \u1112\u1161\u11ab 각 \uac00",
    "code": "def f(x):\n    return {'a': [1, 2.5e-3], \"b\": None}  # naïve\n",
    "apostrophes": "I'm you'LL we’ve 'S 'tis O'Neill's",
}
# Templates that refuse a system message get those without one.
CHATS = {name: smollm2.CHATS[name] for name in ("no-system", "system", "multi-turn", "unicode", "whitespace")}


def encode(tokenizer, text):
    rows = {"text": text} | smollm2.encode_text(tokenizer, text)
    rows["added"] = tokenizer.backend_tokenizer.encode(text, add_special_tokens=True).ids
    return rows


def chats(tokenizer):
    from jinja2.exceptions import TemplateError

    if tokenizer.chat_template is None:
        return {}
    done = {}
    for name, messages in CHATS.items():
        try:
            rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except TemplateError as refusal:
            done[name] = {"messages": messages, "refusal": str(refusal)}
            continue
        ids = tokenizer.backend_tokenizer.encode(rendered, add_special_tokens=False).ids
        done[name] = {"messages": messages, "rendered": rendered, "ids": ids}
    return done


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    pins.settle()
    from transformers import AutoTokenizer

    golden = {}
    for directory in sorted(path for path in pathlib.Path(sys.argv[1]).iterdir() if (path / "tokenizer.json").exists()):
        tokenizer = AutoTokenizer.from_pretrained(directory)
        golden[directory.name] = {
            "class": type(tokenizer).__name__,
            "texts": {name: encode(tokenizer, text) for name, text in TEXTS.items()},
            "chats": chats(tokenizer),
        }
    file = pins.FIXTURES / "vocabularies.json"
    file.write_text(json.dumps(golden, separators=(",", ":"), sort_keys=True) + "\n")
    print(file.stat().st_size, "bytes;", {name: rows["class"] for name, rows in golden.items()})


if __name__ == "__main__":
    main()

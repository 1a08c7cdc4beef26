#!/usr/bin/env python3
"""Makes tests/fixtures/text: three tiny tokenizers and what transformers does with them.

Needs transformers 5.23.0 and tokenizers 0.23.3 (the judges); the build and the tests need neither. The result is the same at
every run. The chat templates are written for these fixtures, with the constructs that released checkpoints use.
"""

import json
import random
import shutil
from pathlib import Path

import tokenizers
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

assert transformers.__version__ == "5.23.0" and tokenizers.__version__ == "0.23.3"

ROOT = Path(__file__).resolve().parents[2] / "tests" / "fixtures" / "text"

CORPUS = [
    "The rhapsode sang of ships and of men, and the men listened until the fire was ash.",
    "A tokenizer splits text into pieces; a model reads the pieces and not the text.",
    "def main():\n    for i in range(10):\n        print(i, i * i)\n    return 0\n",
    "It isn't what they're saying, it's what we've heard; I'm sure you'll agree.",
    "Zürich, naïve, façade, señor, Ærøskøbing, Москва, Αθήνα, 東京, 北京, 서울.",
    "1234567890 3.14159 2026-11-24 0xdeadbeef 100% $42.00",
    "user assistant system tool: hello hello hello, how are you today? I am fine, thank you.",
    "The quick brown fox jumps over the lazy dog. The lazy dog sleeps. The fox runs.",
] * 4

TEXTS = [
    "", " ", "  ", "\n", "\n\n\n", "\t x", "Hello", " Hello", "Hello ", "  two  spaces  ", "Hello, world!\n",
    "It isn't they're we've I'M", "naïve façade Zürich", "東京 北京 서울 Москва", "🙂🙃👩‍👩‍👧‍👦🇩🇪", "e\u0301 vs é", "\u00a0nbsp\u200bzw",
    "def f(x):\n    return x ** 2\n", "1234567890 12 345", "a" * 60, "\x00\x01\x7f", "\ufeffbom", "\U0010ffff",
    "<|im_start|>user\nhi<|im_end|>\n", "a<|im_end|>b", "<|im_end|><|im_end|>", " <|im_end|> ", "<s>x</s>", "x <s> y",
    "<think>why</think>", "<|im_end", "im_end|>", "<s><s>", "[INST] hi [/INST]", "▁▁ under ▁", "<0x41>", "end</s>\n start",
    "<|pad|>word<|pad|>", "word<mark>  spaced <mark>word", "MARK <mark>.",
]

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

TEMPLATES = {
    "chatml": CHATML,
    "llama2": (
        "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
        "{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}"
        "{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
        "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}"
        "{% if loop.index0 == 0 and system_message != false %}"
        "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
        "{% else %}{% set content = message['content'] %}{% endif %}"
        "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
        "{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
    ),
    "llama3": (
        "{{- bos_token }}\n{%- if tools is defined and tools is not none %}\n    {{- 'Tools:\\n' }}\n"
        "    {%- for t in tools %}\n        {{- t | tojson(indent=4) }}\n        {{- '\\n\\n' }}\n    {%- endfor %}\n{%- endif %}\n"
        "{%- if not date_string is defined %}\n    {%- set date_string = '26 Jul 2024' %}\n{%- endif %}\n"
        "{%- for message in messages %}\n"
        "    {%- if not (message.role == 'ipython' or 'tool_calls' in message) %}\n"
        "        {{- '<|' + message['role'] + '|>\\n\\n' + message['content'] | trim + eos_token }}\n"
        "    {%- elif 'tool_calls' in message %}\n"
        "        {%- if not message.tool_calls|length == 1 %}\n            {{- raise_exception('one call only') }}\n"
        "        {%- endif %}\n        {%- set tool_call = message.tool_calls[0].function %}\n"
        "        {{- '{\"name\": \"' + tool_call.name + '\", \"parameters\": ' }}\n"
        "        {{- tool_call.arguments | tojson }}\n        {{- '}' + date_string }}\n    {%- endif %}\n{%- endfor %}\n"
        "{%- if add_generation_prompt %}\n    {{- '<|assistant|>\\n\\n' }}\n{%- endif %}\n"
    ),
    "gemma": (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for message in messages %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}"
        "{% set role = message['role'] %}{% endif %}"
        "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
    ),
    "zephyr": (
        "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + eos_token }}\n"
        "{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n"
        "{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
        "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
    ),
    "qwen": (
        "{%- if tools %}\n    {{- '<|im_start|>system\\n' }}\n    {%- if messages[0].role == 'system' %}\n"
        "        {{- messages[0].content + '\\n\\n' }}\n    {%- endif %}\n    {{- \"# Tools\\n<tools>\" }}\n"
        "    {%- for tool in tools %}\n        {{- \"\\n\" }}\n        {{- tool | tojson }}\n    {%- endfor %}\n"
        "    {{- \"\\n</tools><|im_end|>\\n\" }}\n{%- else %}\n    {%- if messages[0].role == 'system' %}\n"
        "        {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}\n    {%- endif %}\n{%- endif %}\n"
        "{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}\n"
        "{%- for message in messages[::-1] %}\n    {%- set index = (messages|length - 1) - loop.index0 %}\n"
        "    {%- if ns.multi_step_tool and message.role == \"user\" and message.content is string and not("
        "message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}\n"
        "        {%- set ns.multi_step_tool = false %}\n        {%- set ns.last_query_index = index %}\n    {%- endif %}\n{%- endfor %}\n"
        "{%- for message in messages %}\n    {%- if message.content is string %}\n        {%- set content = message.content %}\n"
        "    {%- else %}\n        {%- set content = '' %}\n    {%- endif %}\n"
        "    {%- if (message.role == \"user\") or (message.role == \"system\" and not loop.first) %}\n"
        "        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}\n"
        "    {%- elif message.role == \"assistant\" %}\n        {%- set reasoning_content = '' %}\n"
        "        {%- if message.reasoning_content is string %}\n            {%- set reasoning_content = message.reasoning_content %}\n"
        "        {%- else %}\n            {%- if '</think>' in content %}\n"
        "                {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}\n"
        "                {%- set content = content.split('</think>')[-1].lstrip('\\n') %}\n            {%- endif %}\n        {%- endif %}\n"
        "        {%- if loop.index0 > ns.last_query_index and reasoning_content %}\n"
        "            {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}\n"
        "        {%- else %}\n            {{- '<|im_start|>' + message.role + '\\n' + content }}\n        {%- endif %}\n"
        "        {%- if message.tool_calls %}\n            {%- for tool_call in message.tool_calls %}\n"
        "                {%- if (loop.first and content) or (not loop.first) %}\n                    {{- '\\n' }}\n                {%- endif %}\n"
        "                {%- if tool_call.function %}\n                    {%- set tool_call = tool_call.function %}\n                {%- endif %}\n"
        "                {{- '<tool_call>\\n{\"name\": \"' }}\n                {{- tool_call.name }}\n"
        "                {{- '\", \"arguments\": ' }}\n                {%- if tool_call.arguments is string %}\n"
        "                    {{- tool_call.arguments }}\n                {%- else %}\n                    {{- tool_call.arguments | tojson }}\n"
        "                {%- endif %}\n                {{- '}\\n</tool_call>' }}\n            {%- endfor %}\n        {%- endif %}\n"
        "        {{- '<|im_end|>\\n' }}\n    {%- elif message.role == \"tool\" %}\n"
        "        {%- if loop.first or (messages[loop.index0 - 1].role != \"tool\") %}\n            {{- '<|im_start|>user' }}\n        {%- endif %}\n"
        "        {{- '\\n<tool_response>\\n' }}\n        {{- content }}\n        {{- '\\n</tool_response>' }}\n"
        "        {%- if loop.last or (messages[loop.index0 + 1].role != \"tool\") %}\n            {{- '<|im_end|>\\n' }}\n        {%- endif %}\n"
        "    {%- endif %}\n{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n"
        "    {%- if enable_thinking is defined and enable_thinking is false %}\n        {{- '<think>\\n\\n</think>\\n\\n' }}\n    {%- endif %}\n{%- endif %}"
    ),
    "phi3": (
        "{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}{{'<|system|>\n' + "
        "message['content'] + '<|end|>\n'}}{% elif message['role'] == 'user' %}{{'<|user|>\n' + message['content'] + '<|end|>\n'}}"
        "{% elif message['role'] == 'assistant' %}{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
    ),
    "capital": (
        "{% for message in messages %}{{ message['role'] | capitalize + ': ' + message['content'] | trim + '<|im_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}"
    ),
    "generation": (
        "{%- for message in messages -%}\n{%- if message.role == 'assistant' -%}\n{% generation %}{{ message.content }}{{ eos_token }}"
        "{% endgeneration %}\n{%- else -%}\n{{ message.role }}: {{ message.content }}\n{%- endif -%}\n{%- endfor -%}\n"
    ),
    "constructs": (
        "  {# a comment #}\n{%- macro line(role, text='none') -%}[{{ role }}|{{ text }}]{%- endmacro -%}\n"
        "{% set ns = namespace(n=0, seen=[]) %}\n{% for m in messages if m.role != 'tool' %}\n"
        "  {% set ns.n = ns.n + 1 %}\n  {{ line(m.role, text=m['content']|string|upper) }}\n"
        "  {% if loop.index > 3 %}{% break %}{% endif %}\n  {% if m.role == 'system' %}{% continue %}{% endif %}\n"
        "  {{ loop.index }}/{{ loop.length }} {{ loop.previtem.role if loop.previtem is defined else '-' }}\n{% endfor %}\n"
        "{{ ns.n }} {{ true }} {{ none }} {{ 1.5 }} {{ 3 // 2 }} {{ 7 % 3 }} {{ 2 ** 5 }} {{ 10 / 4 }}\n"
        "{{ messages | map(attribute='role') | join(', ') }} {{ messages | selectattr('role', 'equalto', 'user') | list | length }}\n"
        "{{ {'b': 1, 'a': [1, 2.0, none, true, 'é<&>\"']} | tojson }} {{ [1, {'x': []}] | tojson(indent=2) }}\n"
        "{{ {'b': 1, 'a': 'é'} | tojson(sort_keys=true, ensure_ascii=true, separators=(',', ':')) }}\n"
        "{{ 'a,b,c'.split(',') | last }} {{ ' x '.strip() ~ 'y'.upper() ~ 1 }} {{ 'abc'[1:] }} {{ 'abc'[::-1] }} {{ messages[-1].role }}\n"
        "{{ 'abc'.replace('b', '') }} {{ 'abc'.startswith('a') }} {{ 'Title case'.title() }} {{ 'x' in 'xyz' }} {{ 'k' not in {} }}\n"
        "{{ missing is defined }} {{ missing | default('d') }} {{ '' or 'else' }} {{ (1, 2) | first }} {{ 'a\\nb' | indent(2) }}\n"
        "{% for k, v in {'one': 1, 'two': 2}.items() %}{{ k }}={{ v }};{% endfor %}{% for k, v in {'z': 1, 'y': 2} | dictsort %}{{ k }}{% endfor %}\n"
        "{% if messages[0].role is string and messages is iterable and messages[0] is mapping and 3 is odd %}ok{% endif %}\n"
        "{{ 'x' if false }}|{{ [1, 2, 3] | sum }} {{ [3, 1, 2] | sort | reverse | list }} {{ '%s-%d' | format('s', 3) }} {{ 5 | string | length }}\n"
        "{% filter upper %}filtered{% endfilter %}{% set block %}captured {{ 1 + 1 }}{% endset %}{{ block }}"
        "{% raw %}{{ raw }}{% endraw %}{{ messages[0].get('content', 'x') }}{{ messages[0].get('nope') }}\n"
    ),
}

TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "Weather of a city, <now> & \"then\"", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer", "default": 1.0}}, "required": ["city"]}}}]

CONVERSATIONS = [
    [{"role": "user", "content": "Hello"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "  Who sang?  \n"}],
    [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}, {"role": "user", "content": "And 東京 🙂?"}],
    [{"role": "system", "content": "S"}, {"role": "user", "content": "a"}, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nb"},
     {"role": "user", "content": "c\nd"}, {"role": "assistant", "content": "e"}],
    [{"role": "user", "content": "Weather?"}, {"role": "assistant", "content": None, "tool_calls": [
        {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Zürich", "days": 2}}}]},
     {"role": "tool", "name": "get_weather", "content": "sunny"}, {"role": "assistant", "content": "Sunny.", "reasoning_content": "It said so."}],
    [{"role": "user", "content": ""}],
]


def base_specials():
    return ["<|pad|>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<unk>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>",
            "<start_of_turn>", "<end_of_turn>"]


def extras(tokenizer):
    from tokenizers import AddedToken
    tokenizer.add_special_tokens(base_specials())
    tokenizer.add_tokens(["<think>", "</think>", "<tool_response>", "</tool_response>"])
    tokenizer.add_tokens([AddedToken("<mark>", lstrip=True, rstrip=True, single_word=True, normalized=False)])


def byte_level():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=640, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    extras(tokenizer)
    bos = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", bos)])
    return json.loads(tokenizer.to_str())


def byte_fallback(prepend):
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=["<unk>", "<s>", "</s>"], limit_alphabet=70, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    raw = json.loads(tokenizer.to_str())
    old = sorted(raw["model"]["vocab"].items(), key=lambda item: item[1])
    tokens = [t for t, _ in old]
    tokens = tokens[:3] + [f"<0x{b:02X}>" for b in range(256)] + tokens[3:]
    raw["model"]["vocab"] = {t: i for i, t in enumerate(tokens)}
    tokenizer = Tokenizer.from_str(json.dumps(raw))
    if not prepend:
        tokenizer.normalizer = None
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    extras(tokenizer)
    return json.loads(tokenizer.to_str())


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n" if not isinstance(value, str) else value, encoding="utf-8")


def tokenizer_golden(directory):
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    rng = random.Random(7)
    cases = []
    for text in TEXTS + [random_text(rng) for _ in range(60)]:
        cases.append({
            "text": text,
            "special": tokenizer.encode(text, add_special_tokens=False),
            "plain": tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True),
            "added": tokenizer.encode(text, add_special_tokens=True),
        })
    decodes = []
    for _ in range(60):
        ids = [rng.randrange(len(tokenizer)) for _ in range(rng.randrange(1, 24))]
        decodes.append({"ids": ids, "all": tokenizer.decode(ids), "visible": tokenizer.decode(ids, skip_special_tokens=True)})
    return {"size": len(tokenizer), "encode": cases, "decode": decodes}


def random_text(rng):
    parts = ["<|im_end|>", "<s>", "</s>", "<think>", " ", "  ", "\n", "hello", "Zürich", "東京", "🙂", "▁", "<|im_", "end|>", "1234", "'re",
             "<mark>", "x", "\u0301", "<0x0A>", "\t", "."]
    return "".join(rng.choice(parts) for _ in range(rng.randrange(1, 9)))


def render_golden(directory):
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    cases = []
    for name, source in TEMPLATES.items():
        for index, messages in enumerate(CONVERSATIONS):
            for generation in (False, True):
                for tools in (None, TOOLS):
                    extra = {"enable_thinking": False} if name == "qwen" and generation else {}
                    case = {"template": name, "conversation": index, "generation": generation, "tools": tools is not None, "extra": extra}
                    try:
                        case["text"] = tokenizer.apply_chat_template(messages, chat_template=source, tools=tools, tokenize=False,
                                                                     add_generation_prompt=generation, **extra)
                        case["ids"] = tokenizer.encode(case["text"], add_special_tokens=False)
                    except Exception as error:
                        case["error"] = type(error).__name__
                    cases.append(case)
    return {"templates": TEMPLATES, "tools": TOOLS, "conversations": CONVERSATIONS, "cases": cases}


def main():
    shutil.rmtree(ROOT, ignore_errors=True)
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
              "pad_token": {"__type": "AddedToken", "content": "<|pad|>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False},
              "clean_up_tokenization_spaces": True}
    for name, build in {"byte_level": byte_level, "metaspace": lambda: byte_fallback(False), "prepend": lambda: byte_fallback(True)}.items():
        write(ROOT / name / "tokenizer.json", build())
        more = dict(config)
        if name == "byte_level":
            more["chat_template"] = [{"name": "default", "template": CHATML}, {"name": "tool_use", "template": TEMPLATES["qwen"]}]
        if name == "metaspace":
            more["added_tokens_decoder"] = {"900": {"content": "<late>", "lstrip": False, "normalized": False, "rstrip": False,
                                                    "single_word": False, "special": True}}
            more["add_bos_token"], more["add_eos_token"] = True, True
            write(ROOT / name / "chat_template.jinja", TEMPLATES["llama2"])
        write(ROOT / name / "tokenizer_config.json", more)
        write(ROOT / name / "golden.json", tokenizer_golden(ROOT / name))
    write(ROOT / "renderings.json", render_golden(ROOT / "byte_level"))


main()

#!/usr/bin/env python3
"""Writes every YAML snippet of the configuration guide as a complete file, for tests/fixtures/config/guide.

usage: guide_snippets.py GUIDE.md OUTPUT_DIR

A snippet that is a whole file stays as it is; one that holds model entries goes under generator.models; one that holds
keys of an entry goes into an entry named "snippet". Lines are only indented, never changed, so duplicate keys and
placeholders of the guide arrive as a user would paste them.
"""
import pathlib
import re
import sys
import textwrap

ENTRY = 'generator:\n  active_model: "{name}"\n  models:\n'
SNIPPET = ENTRY.format(name="snippet") + "    snippet:\n"


def snippets(text):
    """(heading, yaml) of each fenced yaml block, dedented."""
    heading = ""
    lines = iter(text.splitlines())
    fenced = False
    for line in lines:
        if line.strip().startswith("```"):
            if fenced:
                fenced = False
            elif line.strip() == "```yaml":
                block = []
                for inner in lines:
                    if inner.strip() == "```":
                        break
                    block.append(inner)
                yield heading, textwrap.dedent("\n".join(block)) + "\n"
            else:
                fenced = True
        elif not fenced and re.match(r"#+ ", line):
            heading = line.lstrip("#").strip()


def indented(block, blanks):
    return "".join(" " * blanks + line if line.strip() else line for line in block.splitlines(keepends=True))


def complete(block):
    first = next(line for line in block.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    if first.startswith("generator:"):
        return block
    key = first.split(":")[0]
    children = first.rstrip().endswith(":") and key not in ("device_map", "max_memory", "quantization_config")
    if children:
        text = ENTRY.format(name=key) + indented(block, 4)
        return text if "model_id:" in block else text + f'      model_id: "{key}"\n'
    text = SNIPPET
    if "model_id:" not in block:
        text += '      model_id: "org/model-name"\n'
    return text + indented(block, 6)


def main():
    guide, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    for number, (heading, block) in enumerate(snippets(guide.read_text(encoding="utf-8")), 1):
        slug = re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-")
        (out / f"{number:02d}-{slug}.yaml").write_text(complete(block), encoding="utf-8")


if __name__ == "__main__":
    main()

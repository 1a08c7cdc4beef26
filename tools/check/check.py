#!/usr/bin/env python3
"""Checks a source tree against the rules of the house. Prints path:line: message, exits 1 where one is broken."""

import argparse
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import layout
from rules import RULES


class Tree:
    """The files that git tracks or would add; without git, every file outside build/ and hidden folders."""

    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.files = sorted(self._tracked() if (self.root / ".git").exists() else self._walked())
        self._texts = {}

    def _tracked(self):
        listing = subprocess.run(
            ["git", "-c", "safe.directory=*", "-C", str(self.root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            check=True, capture_output=True).stdout.decode()
        return {path for path in listing.split("\0") if path and (self.root / path).is_file()}

    def _walked(self):
        for path in self.root.rglob("*"):
            relative = path.relative_to(self.root)
            if path.is_file() and relative.parts[0] != "build" and "__pycache__" not in relative.parts:
                yield relative.as_posix()

    def paths(self, *endings):
        return [path for path in self.files if not endings or path.endswith(endings)]

    def text(self, path):
        if path not in self._texts:
            self._texts[path] = (self.root / path).read_bytes().decode("utf-8", "replace")
        return self._texts[path]


def inspect(tree, with_format):
    """Every finding as (path, line, message), in order, each once."""
    found = set()
    for name, rule in RULES.items():
        found |= {(path, line, f"[{name}] {message}") for path, line, message in rule(tree)}
    if with_format:
        found |= set(layout.findings(tree))
    return sorted(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", default=pathlib.Path(__file__).resolve().parents[2])
    parser.add_argument("--no-format", action="store_true", help="leave clang-format out")
    arguments = parser.parse_args()
    tree = Tree(arguments.root)
    found = inspect(tree, not arguments.no_format)
    for path, line, message in found:
        print(f"{path}:{line}: {message}")
    print(f"check: {len(tree.files)} files, {len(found)} findings", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

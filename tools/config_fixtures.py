#!/usr/bin/env python3
"""Writes what PyYAML and accelerate make of scalars and sizes, for tests/fixtures/config. Needs both packages.

usage: config_fixtures.py OUTPUT_DIR
"""
import itertools
import pathlib
import sys

import yaml
from accelerate.utils.modeling import convert_file_size_to_int

WORDS = """true True TRUE tRUE false False yes Yes YES yEs no No NO on On ON off Off OFF y n Y N null Null NULL nUll ~ none None
0 1 -1 +1 00 01 012 -012 08 09 0x10 0xFF 0xg 0o7 0o8 0b1 0b2 1_000 1__0 _1 1_ 1,000 123abc
0.5 .5 -.5 +.5 5. 1.0 01.5 1e3 1E3 1e+3 1e-3 1.0e3 1.0e+3 1.0e-3 1.5E-3 .5e3 .5e-3 1_0.5 1.2.3 e3 1e .e3 . -. + -
.inf -.inf +.inf .Inf .INF .nan .NaN .NAN -.nan inf nan infinity
1:30 12:30:45 1:60 0:30 1:30.5 60:61 a:b 1:3:5:7
2024-01-31 2024-1-31 24-01-31 2024-01-31T10:00:00Z 2024-13-45 2024-01-31x
= == << <<< 8bit 4bit 3.8GB cuda:0 auto huggingface org/name v1.0 1.2-rc 7b 0.1.2 9223372036854775807 9223372036854775808
-9223372036854775808 99999999999999999999 bfloat16 torch.float16""".split()


def pyyaml_kind(text):
    tag = yaml.SafeLoader("").resolve(yaml.ScalarNode, text, (True, False))
    return {"str": "text", "bool": "boolean", "int": "integer", "float": "real"}.get(tag.rpartition(":")[2], tag.rpartition(":")[2])


def size(text):
    try:
        return str(convert_file_size_to_int(text))
    except (ValueError, OverflowError):
        return "error"


def main():
    out = pathlib.Path(sys.argv[1])
    (out / "pyyaml_scalars.txt").write_text("".join(f"{w} {pyyaml_kind(w)}\n" for w in WORDS))
    numbers = ["0", "1", "3.8", ".5", "5.", "1e1", "1.5E-1", "+2", "20", "0.1", "12.3456789012", "007", "-1", "-0.5", "1e99",
               "inf", "nan", "", "1 2", "x", "0x10", "1e", "1.2.3", "8 ", " 8"]
    units = ["GB", "GiB", "MB", "MiB", "KB", "KiB", "Gb", "gb", "gB", "Mb", "Kb", "GIB", "gib", "Gib", "TB", "G", "B", "", "GiBs"]
    lines = [f"{n}{u}|{size(n + u)}\n" for n, u in itertools.product(numbers, units)]
    (out / "accelerate_sizes.txt").write_text("".join(lines))


if __name__ == "__main__":
    main()

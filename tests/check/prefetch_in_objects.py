"""prefetch_in_objects.py OBJECT...: kernels that read weights from memory must ask for them ahead in their object code.

Compilers drop calls of functions that do nothing but prefetch, unseen by any test of results: each kernel of these names that
multiplies vectors must hold a prefetch instruction. Takes the objects of src/kernels/isa; needs objdump.
"""

import re
import subprocess
import sys

KERNELS = re.compile(r"\b(gemv\w*|few_(?:fixed|bytes|pairs)|columns|dot_digits|dot_token|dot_ternary\w*)\b.*\(")
MULTIPLIES = re.compile(r"\bv(pmadd|pdp|dpbf16|fmadd)\w* .*%[yz]mm")


def functions(path):
    """(name, lines) of each function of an object."""
    out = subprocess.run(["objdump", "-dC", "--no-show-raw-insn", path], check=True, capture_output=True, text=True).stdout
    for block in re.split(r"\n\n", out):
        head, _, body = block.partition(":\n")
        name = re.fullmatch(r"\s*[0-9a-f]+ <(.*)>", head)
        if name:
            yield name[1].replace("(anonymous namespace)::", ""), body


def main():
    seen, findings = 0, []
    for path in sys.argv[1:]:
        for name, body in functions(path):
            if not KERNELS.search(name) or not MULTIPLIES.search(body):
                continue
            seen += 1
            if "prefetch" not in body:
                findings.append(f"{path}: {name} asks for nothing ahead")
    print(*findings, f"{seen} kernels seen, {len(findings)} without prefetch", sep="\n")
    return 1 if findings or seen == 0 else 0


if __name__ == "__main__":
    sys.exit(main())

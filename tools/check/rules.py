"""The rules of the house as functions: each takes a Tree and yields findings (path, line, message)."""

import ast
import re

from source import code_only, functions, line_of

MAX_FILE, MAX_HEADER, MAX_FAMILY, MAX_FUNCTION = 800, 300, 150, 80
CPP, RUST, PYTHON, SHELL = (".cpp", ".h"), (".rs",), (".py",), (".sh",)
CODE = CPP + RUST + PYTHON + SHELL
BANNED_NAMES = {"util", "utils", "helper", "helpers", "common", "misc", "manager"}

# Written so that this file does not match itself.
FORBIDDEN = [
    (re.compile(r"/(?:wor[k]|roo[t])/"), "a path of one machine"),
    (re.compile(r"\b(?:pyp[i]\.org|pythonhoste[d]\.org|crate[s]\.io|npmj[s]\.org|npmj[s]\.com|de[b]\.debian\.org"
                r"|securit[y]\.debian\.org|prox[y]\.golang\.org|mave[n]\.org)\b"), "the host of a package registry"),
    (re.compile(r"\b(?:TOD[O]|FIXM[E]|XX[X]|HAC[K])\b"), "unfinished work"),
]
NOT_TEXT = (".safetensors", ".gguf", ".bin", ".png", ".npz")
LOUD = re.compile(r"\bstd::(?:cout|cerr|clog)\b|\bfmt::print\b|(?<![\w.>])(?:printf|fprintf|vprintf|vfprintf|puts|fputs|putchar"
                  r"|getenv|secure_getenv|setenv|exit|_exit|_Exit|quick_exit|abort)\s*\(")
INTRINSICS = re.compile(r"^\s*#\s*include\s*<(?:\w*mmintrin|x86intrin|arm_\w+)\.h>", re.MULTILINE)
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*("[^"\n]*"|<[^>\n]*>)', re.MULTILINE)


def sizes(tree):
    for path in tree.paths(*CODE, "dev"):
        lines = tree.text(path).count("\n")
        limit = MAX_FILE
        if path.endswith(".h"):
            limit = MAX_HEADER
        elif path.startswith("src/arch/families/"):
            limit = MAX_FAMILY
        if lines > limit:
            yield path, limit + 1, f"{lines} lines; the limit of this kind of file is {limit}"


def function_sizes(tree):
    for path in tree.paths(*CPP, *RUST):
        code = code_only(tree.text(path), "rust" if path.endswith(RUST) else "cpp")
        for line, lines, head in functions(code):
            if lines > MAX_FUNCTION:
                yield path, line, f"a function of {lines} lines, the limit is {MAX_FUNCTION}: {head[:60]}"
    for path in tree.paths(*PYTHON):
        for node in ast.walk(ast.parse(tree.text(path), path)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = node.end_lineno - node.lineno + 1
                if lines > MAX_FUNCTION:
                    yield path, node.lineno, f"a function of {lines} lines, the limit is {MAX_FUNCTION}: {node.name}"


def _words(name):
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def names(tree):
    for path in tree.paths():
        found = _words(path) & BANNED_NAMES
        if found and not path.startswith("tests/fixtures/"):
            yield path, 1, f"the name says nothing: {', '.join(sorted(found))}"
    for path in tree.paths(*CPP, *RUST):
        code = code_only(tree.text(path), "rust" if path.endswith(RUST) else "cpp")
        for match in re.finditer(r"(?<!std::)\b[A-Za-z_]\w*", code):
            if _words(match.group(0)) & BANNED_NAMES:
                yield path, line_of(code, match.start()), f"the name says nothing: {match.group(0)}"


def forbidden_words(tree):
    for path in tree.paths():
        if path.endswith(NOT_TEXT) or path.startswith("tests/fixtures/"):
            continue
        text = tree.text(path)
        for pattern, what in FORBIDDEN:
            for match in pattern.finditer(text):
                yield path, line_of(text, match.start()), f"{what}: {match.group(0)}"


def walls_table(text):
    """{folder: set of prefixes} from the table under "| folder | may include |" in docs/architecture.md."""
    table, inside = {}, False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and cells[:2] == ["folder", "may include"]:
            inside = True
        elif inside and not line.startswith("|"):
            break
        elif inside and not set(cells[0]) <= set("-: "):
            for folder in cells[0].split(","):
                table[folder.strip()] = {entry.strip() for entry in cells[1].split(",") if entry.strip() != "nothing"}
    return table


def _allowed(target, entries):
    """`quant/formats` allows quant/formats.h alone, `quant` the whole folder."""
    return any(target == f"{entry}.h" or target.startswith(f"{entry}/") for entry in entries)


def walls(tree):
    page = "docs/architecture.md"
    table = walls_table(tree.text(page)) if page in tree.files else {}
    if not table:
        yield page, 1, "the table of walls (| folder | may include |) is missing"
        return
    folders = {path.split("/")[1] for path in tree.paths(*CPP) if path.startswith("src/") and path.count("/") > 1}
    for folder in sorted(folders - set(table)):
        yield page, 1, f"src/{folder} has no row in the table of walls"
    for folder in sorted(name for name in table if name.split("/")[0] not in folders):
        yield page, 1, f"the table of walls names src/{folder}, which does not exist"
    for path in tree.paths(*CPP):
        parts = path.split("/")
        if parts[0] != "src" or len(parts) < 3:
            continue
        inner = "/".join(parts[1:3])
        owner = inner if inner in table else parts[1]
        text = tree.text(path)
        for match in INCLUDE.finditer(text):
            yield from _include(tree, path, line_of(text, match.start(1)), match.group(1), owner, table.get(owner, set()))


def _include(tree, path, line, spelled, owner, entries):
    target = spelled[1:-1]
    in_tree = f"src/{target}" in tree.files
    if spelled[0] == "<":
        if in_tree:
            yield path, line, f"own headers are included with quotes: {spelled}"
        return
    if target == "text-ffi.h" or target.startswith("text_ffi"):
        return
    if not in_tree:
        yield path, line, f"not a header of src/, paths are written from src/: {spelled}"
    elif not _allowed(target, entries | {owner}):
        yield path, line, f"src/{owner} may not include {target} (docs/architecture.md, the table of walls)"


def quiet(tree):
    """Only cli prints, reads the environment or exits; only the kernel sets see intrinsics."""
    for path in tree.paths(*CPP):
        if not path.startswith("src/"):
            continue
        code = code_only(tree.text(path), "cpp")
        if not path.startswith("src/cli/"):
            for match in LOUD.finditer(code):
                yield path, line_of(code, match.start()), f"only src/cli prints, reads the environment or exits: {match.group(0)}"
        if not path.startswith(("src/kernels/isa/",)):
            for match in INTRINSICS.finditer(tree.text(path)):
                yield path, line_of(tree.text(path), match.start()), "intrinsics belong to src/kernels/isa"


def rooms(tree):
    """The root holds what the build and the door need; code lives in a folder."""
    for path in tree.paths(*CODE):
        if "/" not in path:
            yield path, 1, "code lives in a folder, not in the root"


RULES = {
    "room": rooms,
    "size": sizes,
    "function": function_sizes,
    "name": names,
    "word": forbidden_words,
    "wall": walls,
    "quiet": quiet,
}

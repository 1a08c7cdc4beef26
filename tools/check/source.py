"""Source text without what is not code: comments, strings and characters become blanks, lines keep their numbers."""

import re

_CPP = re.compile(
    r"""
    //[^\n]*(?:\\\n[^\n]*)* | /\*.*?\*/
    | (?:u8|[uUL])?R"(?P<mark>[^()\\\s]{0,16})\(.*?\)(?P=mark)"
    | "(?:\\.|[^"\\\n])*"
    | (?<![0-9A-Fa-f])'(?:\\.[^'\n]*|[^'\\\n])'
    """,
    re.VERBOSE | re.DOTALL,
)
_RUST = re.compile(
    r"""
    //[^\n]* | /\*.*?\*/
    | b?r(?P<mark>\#*)".*?"(?P=mark)
    | b?"(?:\\.|[^"\\])*"
    | b?'(?:\\.[^'\n]*|[^'\\\n])'
    """,
    re.VERBOSE | re.DOTALL,
)
_DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.MULTILINE)


def _blank(text):
    return re.sub(r"[^\n]", " ", text)


def code_only(text, language):
    """`text` with comments, literals and (C++) directives blanked; newlines stay."""
    pattern = _RUST if language == "rust" else _CPP
    text = pattern.sub(lambda match: _blank(match.group(0)), text)
    return text if language == "rust" else _DIRECTIVE.sub(lambda match: _blank(match.group(0)), text)


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


_SCOPE = re.compile(
    r"^(?:template\s*<.*>\s*)?(?:export\s+|inline\s+|typedef\s+|pub(?:\([a-z]+\))?\s+|unsafe\s+)*"
    r"(?:namespace|class|struct|union|enum|extern|impl|mod|trait)\b",
    re.DOTALL,
)
_BODY_END = re.compile(r"\)\s*(?:(?:const|noexcept|override|final|mutable|volatile|&&?)\s*)*$")


def _is_scope(head):
    """A brace that opens a namespace or a type: what is inside is measured, not the whole."""
    return bool(_SCOPE.match(head)) and not _BODY_END.search(head)


def _is_function(head):
    if head.count("(") != head.count(")") or ")" not in head:
        return False
    return not head.endswith("=")


def functions(code):
    """Yields (first line, lines, head) of each outermost block with a parameter list: functions, lambdas, tests.

    The braces of an initializer list or of a member initializer leave the head open, so a body cannot hide behind them.
    """
    depth = 0  # inside a block that is measured
    head, head_at = "", None
    block = None
    for offset, char in enumerate(code):
        if depth:
            depth += (char == "{") - (char == "}")
            if depth == 0:
                function = block[1] and (block[0], offset, block[2])
                if function:
                    first = line_of(code, function[0])
                    yield first, line_of(code, offset) - first + 1, " ".join(function[2].split())
                following = code[offset + 1 :].lstrip()[:1]
                if following and following in ",{().":
                    head = block[2] + "{}"
                else:
                    head, head_at = "", None
        elif char == "{":
            text = head.strip()
            if _is_scope(text):
                head, head_at = "", None
            else:
                block = (head_at if head_at is not None else offset, _is_function(text), head)
                depth = 1
        elif char in ";}":
            head, head_at = "", None
        else:
            if head_at is None and not char.isspace():
                head_at = offset
            head += char

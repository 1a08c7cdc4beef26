"""clang-format 14 over src and tests: one finding a line that it would change."""

import concurrent.futures
import os
import re
import subprocess

TOOL = "clang-format-14"
_WARNING = re.compile(r"^(.*?):(\d+):\d+: (?:warning|error): code should be clang-formatted", re.MULTILINE)


def _run(tree, paths):
    command = [TOOL, "--style=file", "--dry-run", "--Werror", "--ferror-limit=0", *paths]
    done = subprocess.run(command, cwd=tree.root, capture_output=True, text=True)
    found = {(path, int(line)) for path, line in _WARNING.findall(done.stderr)}
    if done.returncode != 0 and not found:
        raise SystemExit(f"{TOOL} failed:\n{done.stderr}")
    return found


def findings(tree):
    paths = [path for path in tree.paths(".cpp", ".h") if path.startswith(("src/", "tests/"))]
    if not paths:
        return []
    cores = len(os.sched_getaffinity(0))
    parts = [paths[start::cores] for start in range(min(cores, len(paths)))]
    with concurrent.futures.ThreadPoolExecutor(cores) as pool:
        found = set().union(*pool.map(lambda part: _run(tree, part), parts))
    return [(path, line, "[format] ./dev format would change this line") for path, line in sorted(found)]

"""Owns the versions that golden results belong to, and the settings that make a run repeatable.

Refuses to run under any other version: a golden file made by another transformers would be a different contract.
Knows nothing of models.
"""

import importlib.metadata
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "fixtures" / "golden"


def pinned():
    """{package: version} of requirements.txt."""
    lines = (pathlib.Path(__file__).with_name("requirements.txt")).read_text().split()
    return dict(line.split("==") for line in lines)


def check():
    """Ends the program when an installed package differs from its pin."""
    wrong = []
    for package, version in pinned().items():
        try:
            found = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found = "nothing"
        if found.split("+")[0] != version:
            wrong.append(f"{package}: found {found}, expected {version}")
    if wrong:
        sys.exit("golden results are pinned to versions:\n  " + "\n  ".join(wrong))


def settle(compiled=False):
    """One thread, deterministic kernels, no network, quiet logs; for the whole process, before transformers is imported."""
    import os

    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TORCHDYNAMO_DISABLE"] = "0" if compiled else "1"  # bitnet.py of transformers compiles
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    check()
    import torch
    import transformers

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()

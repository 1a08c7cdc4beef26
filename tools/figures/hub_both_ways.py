#!/usr/bin/env python3
"""One cache, two programs: huggingface_hub reads what `rhapsode pull` made, and the other way round.

Runs in a Python that has huggingface_hub (./dev setup all). The hub is the tests' own on loopback (build the target hub_server). Files
with one of three suffixes in --files make the repository; without it, a small one is made up. Exit code 1 on the first difference.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile

ID = "org/name"


def made_up(directory):
    with open(os.path.join(directory, "config.json"), "w") as file:
        json.dump({"model_type": "llama", "hidden_size": 64}, file)
    with open(os.path.join(directory, "tokenizer.json"), "w") as file:
        file.write("{}")
    with open(os.path.join(directory, "model.safetensors"), "wb") as file:
        file.write(os.urandom(9 << 20))


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def require(condition, what):
    if not condition:
        sys.exit(f"not so: {what}")
    print(f"  {what}")


class Program:
    def __init__(self, binary, endpoint):
        self.binary, self.endpoint = binary, endpoint

    def json(self, cache, *arguments):
        environment = dict(os.environ, HF_ENDPOINT=self.endpoint, HF_HUB_CACHE=cache)
        done = subprocess.run([self.binary, *arguments, "--json", "--quiet"], env=environment, capture_output=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(arguments)} ended with {done.returncode}: {done.stderr.decode()}{done.stdout.decode()}")
        return json.loads(done.stdout)


def ours_then_theirs(program, expected, cache):
    import huggingface_hub as hub

    print("rhapsode pull, then huggingface_hub", hub.__version__)
    pulled = program.json(cache, "pull", ID)
    found = hub.snapshot_download(ID, cache_dir=cache, local_files_only=True)
    require(os.path.realpath(found) == os.path.realpath(pulled["path"]), "snapshot_download(local_files_only) finds the snapshot")
    for name, sha256 in expected.items():
        path = hub.hf_hub_download(ID, name, cache_dir=cache, local_files_only=True)
        require(digest(path) == sha256, f"hf_hub_download(local_files_only) gives {name}, sha256 equal")
    missing = hub.try_to_load_from_cache(ID, "added_tokens.json", cache_dir=cache)
    require(missing is hub._CACHED_NO_EXIST, "try_to_load_from_cache knows that added_tokens.json is absent")
    report = hub.scan_cache_dir(cache)
    require(not report.warnings and [repo.repo_id for repo in report.repos] == [ID], "scan_cache_dir reports the model and no warning")
    before = {name: os.stat(os.path.join(found, name)).st_ino for name in expected}
    again = hub.snapshot_download(ID, cache_dir=cache, allow_patterns=list(expected))
    after = {name: os.stat(os.path.join(again, name)).st_ino for name in expected}
    require(before == after, "snapshot_download online keeps every file")


def theirs_then_ours(program, expected, cache):
    import huggingface_hub as hub

    print("huggingface_hub", hub.__version__, "then rhapsode")
    made = hub.snapshot_download(ID, cache_dir=cache)
    offline = program.json(cache, "pull", ID, "--offline")
    require(os.path.realpath(offline["path"]) == os.path.realpath(made), "pull --offline finds the snapshot")
    found = {file["name"]: file["sha256"] for file in offline["files"]}
    wrong = {name: found.get(name) for name, sha256 in expected.items() if found.get(name) != sha256}
    require(not wrong, f"every file has its sha256 {wrong or str()}".rstrip())
    online = program.json(cache, "pull", ID)
    require(online["bytes_downloaded"] == 0, "pull online fetches 0 bytes")
    program.json(cache, "cache", "verify")
    require(True, "cache verify finds nothing wrong")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default="build/release/rhapsode")
    parser.add_argument("--server", default="build/release/tests/hub_server")
    parser.add_argument("--files", help="a directory to serve")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        files = options.files or os.path.join(scratch, "files")
        if not options.files:
            os.mkdir(files)
            made_up(files)
        expected = {name: digest(os.path.join(files, name)) for name in os.listdir(files)
                    if name.endswith((".json", ".safetensors", ".jinja"))}
        server = subprocess.Popen([options.server, files], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            os.environ["HF_ENDPOINT"] = server.stdout.readline().strip()  # read when huggingface_hub is imported
            os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
            program = Program(os.path.abspath(options.binary), os.environ["HF_ENDPOINT"])
            ours_then_theirs(program, expected, os.path.join(scratch, "ours"))
            theirs_then_ours(program, expected, os.path.join(scratch, "theirs"))
        finally:
            server.stdin.close()
            server.wait()
    print("both ways: equal")


if __name__ == "__main__":
    main()

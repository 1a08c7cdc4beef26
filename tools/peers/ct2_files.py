"""ct2_files.py CHECKPOINT DIRECTORY: writes a checkpoint as CTranslate2 reads it, by its own converter.

The converter asks for a tokenizer. A checkpoint that has none (tools/bench/make_shape.py) is given one of as many words as its
vocabulary has rows: prompts are ids here, so only their number counts.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

from tokenizers import Tokenizer, models

SPECIAL = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}


def with_tokenizer(checkpoint, directory):
    """A directory of links to the checkpoint's files, and a tokenizer."""
    for file in checkpoint.iterdir():
        (directory / file.name).symlink_to(file)
    rows = json.loads((checkpoint / "config.json").read_text())["vocab_size"]
    words = [*SPECIAL.values(), *(f"word{i}" for i in range(len(SPECIAL), rows))]
    vocabulary = {word: i for i, word in enumerate(words)}
    Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL["unk_token"])).save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **SPECIAL}))
    return directory


def main():
    checkpoint, target = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2]
    with tempfile.TemporaryDirectory() as scratch:
        has_one = any(checkpoint.glob("tokenizer*"))
        source = checkpoint if has_one else with_tokenizer(checkpoint, pathlib.Path(scratch))
        subprocess.run([sys.executable, "-m", "ctranslate2.converters.transformers", "--model", str(source),
                        "--quantization", "bfloat16", "--output_dir", target], check=True)


main()

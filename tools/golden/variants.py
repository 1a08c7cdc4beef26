"""Owns the description of a variant: a family's config.json in the publishers' spelling, and how its checkpoint is stored."""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass
class Variant:
    family: str
    name: str
    config: dict
    stored: str = "bfloat16"  # dtype of the file; half the size, and float32 runs of it are as exact
    primary: str = "float32"  # dtype of the full record
    shard_size: str | None = None  # None: one file
    config_style: str = "published"  # or "saved": as transformers 5 writes it
    long_length: int = 200
    whole: bool = False  # logits at every position of the long prompt; else every `every`-th and the last
    every: int = 16
    spread: float = 1.6
    distinct: int = 4  # different ids that a greedy run of 64 must have, or it is too dull to test with
    dtypes: tuple = ("bfloat16", "float16")
    tied_seeds: tuple = ()  # not taken: an activation lies so close to a rounding tie that sums in another order cross it
    compiled: bool = False  # by torch.compile, as transformers runs BitNet unless it is told not to: fewer roundings in 16 bits
    after_write: Callable | None = None  # rewrites what is on disk into another published form

    @property
    def folder(self):
        return f"{self.family}-{self.name}"


def variants_of(family, base, table, **everywhere):
    """One Variant a row; a row's "config" updates `base`, None removes a key, the rest are fields of Variant."""
    made = []
    for name, row in table.items():
        fields = dict(everywhere, **row)
        config = dict(base, **fields.pop("config", {}))
        absent = fields.pop("absent", ())
        made.append(Variant(family, name, {k: v for k, v in config.items() if k not in absent}, **fields))
    return made

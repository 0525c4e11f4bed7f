"""Which shard of a plan a file in OUT belongs to, by its name alone."""

import os
import re
from collections.abc import Sequence

from transforms.inputs import Shard

_EXTENSIONS = re.compile(
    r"\.(tfrecord|tar|tar\.gz|array_record|parquet|json|jsonl|npz|png|jpeg|webp|avif|tif)$"
)
_ITEM = re.compile(r"(?:.*/)?([0-9]{8,})")


class Owners:
    """Names of the files that the shards of a plan make, or may make."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = {shard.name for shard in shards}
        self._by_stem = {name: name for name in self._shards}
        for shard in shards:
            self._by_stem.update((file.output_name, shard.name) for file in shard.files)
        self._items = [
            (shard.items.first, shard.items.first + shard.items.count, shard.name)
            for shard in shards
            if shard.items is not None
        ]

    def of(self, path: str) -> str | None:
        """The name of the shard that makes OUT/path, None for a name that none makes."""
        folder, _, name = path.partition("/")
        if (shard := os.path.dirname(name)) in self._shards:  # a folder of its own
            return shard
        stem = _EXTENSIONS.sub("", name)
        if not folder or stem == name:
            return None
        if stem in self._by_stem:
            return self._by_stem[stem]
        if (item := _ITEM.fullmatch(stem)) is not None:
            number = int(item[1])
            return next((name for a, b, name in self._items if a <= number < b), None)
        return None

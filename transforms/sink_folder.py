"""Writing records of shards as folders of files, each with a table of all their features.

    OUT/<kind>/<shard>/000012-name.png           the picture
    OUT/<kind>/<shard>/000012-name_mask.png      and what else is a file
    OUT/<kind>/<shard>/metadata.jsonl            the table, see transforms/formats/folder.py

Records that have a place in a tree of files of their own, because they were files or are of a
class, go there, as in sink_files.py.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from transforms import storage
from transforms.examples import FEATURES, example_of
from transforms.formats.base import NAME
from transforms.formats.folder import TABLE, lay_out, to_line
from transforms.formats.pictures import safe_name
from transforms.formats.plain import parsed, single_bytes
from transforms.listing import IMAGE_EXTENSIONS
from transforms.records import Encoded, Record
from transforms.shard_report import FileEntry
from transforms.sink_files import PictureFiles


class PictureFolder(PictureFiles):
    """The pictures of one attempt at a shard; see the module."""

    def __init__(
        self,
        root: str,
        kind: str,
        shard_name: str,
        may_replace: Callable[[], None],
        place: Callable[[str, str], str],
    ) -> None:
        super().__init__(root, kind, may_replace, place)
        self._folder = f"{kind}/{shard_name}"
        self._picture = f"{FEATURES[kind]}/encoded"
        self._lines: list[bytes] = []

    def write(self, record: Record, outputs: Mapping[str, Encoded]) -> None:
        """Raises OSError."""
        if record.output_name:
            super().write(record, outputs)
        else:
            self.keep_example(record.index, example_of(record, outputs))

    def keep_example(self, index: int, example: bytes, there: Sequence[FileEntry] = ()) -> None:
        """Takes a serialized example as it is. Raises OSError.

        Args:
            there: files of the shard that need not be written again.
        """
        features = parsed(example)
        files, line = lay_out(features, self._picture, f"{index:06d}-{_stem(features)}")
        known = {(entry.path, entry.crc32c): entry for entry in there}
        for name, data in files.items():
            path = f"{self._folder}/{name}"
            if (entry := known.get((path, storage.crc32c(data)))) is not None:
                self._files.append(entry)
            else:
                self._add(path, data)
        self._lines.append(to_line(line))

    def fail(self, record: Record) -> None:
        if record.output_name:
            super().fail(record)

    def publish(self, may_replace: Callable[[], None]) -> list[FileEntry]:
        if self._lines:
            self._add(f"{self._folder}/{TABLE}", b"".join(self._lines))
        return super().publish(may_replace)

    def committed(self) -> None:
        super().committed()
        if not self._lines:
            return
        ours = {os.path.relpath(file.path, self._folder) for file in self._files}
        there = f"{self._root}/{self._folder}"
        left = [name for name, _ in storage.list_files(there) if name not in ours]
        for name in left:  # by an attempt that died, of records that fail by now
            storage.delete(f"{there}/{name}")


def _stem(features: Mapping[str, Any]) -> str:
    name = single_bytes(features[NAME]) if NAME in features else None
    text = "" if name is None else name.decode("utf-8", "replace")
    return safe_name(text, IMAGE_EXTENSIONS).rpartition("/")[2][:80]

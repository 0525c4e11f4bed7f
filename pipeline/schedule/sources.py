"""What the source shards hold now: name, size and checksum, without reading what did not change."""

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from transforms import storage
from transforms.inputs import Shard

_THREADS = 16
_RACY_S = 2.0  # a file system's clock may stand still for as long


@dataclasses.dataclass(frozen=True)
class Known:
    """What was found of a shard before: as long as its mark is the same, its version is."""

    mark: str
    version: str


@dataclasses.dataclass(frozen=True)
class Source:
    """A source shard as it is now.

    Attributes:
        version: digest of its content: names, sizes and crc32c of its files.
        mark: digest of what changes when a file is written (generations, or times and inodes);
            "" when a file is so new that a change of the same moment would not show.
        modified_s: when its newest file was written, in seconds since 1970.
    """

    shard: Shard
    version: str
    mark: str
    modified_s: float

    @property
    def name(self) -> str:
        return self.shard.name

    @property
    def size_bytes(self) -> int:
        return self.shard.size_bytes


def look(shards: Sequence[Shard], known: Mapping[str, Known], now_s: float) -> Iterator[Source]:
    """Looks at shards, in order; those that are gone are left out.

    A file's checksum comes from the service, or from what is known while the shard's mark is the
    same; else the file is read.

    Raises:
        OSError: the storage failed.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(lambda shard: _look_at(shard, known.get(shard.name), now_s), shards)
        yield from filter(None, found)


def _look_at(shard: Shard, known: Known | None, now_s: float) -> Source | None:
    try:
        stamps = [(path, storage.stamp(path)) for path in files_of(shard)]
        modified_s = max(stamp.modified_s for _, stamp in stamps)
        mark = _digest(f"{path} {stamp.mark}" for path, stamp in stamps)
        if known is not None and known.mark == mark:
            version = known.version
        else:
            version = _digest(
                f"{name} {stamp.size_bytes} {stamp.crc32c or storage.file_crc32c(path)}"
                for name, (path, stamp) in zip(_names(shard), stamps, strict=True)
            )
    except FileNotFoundError:
        return None
    if not all(stamp.mark for _, stamp in stamps) or now_s - modified_s < _RACY_S:
        mark = ""
    size_bytes = sum(stamp.size_bytes for _, stamp in stamps)
    shard = shard if shard.files else dataclasses.replace(shard, size_bytes=size_bytes)
    return Source(shard, version, mark, modified_s)


def files_of(shard: Shard) -> list[str]:
    """Paths of all files that a shard is read from."""
    if shard.is_examples:
        return [shard.root]
    return [f"{shard.root}/{name}" for name in _names(shard)]


def _names(shard: Shard) -> list[str]:
    """The same relative to the dataset, so that a dataset may move."""
    if shard.is_examples:
        return [shard.name]
    return [name for file in shard.files for name in (file.path, file.mask) if name]


def _digest(lines: Iterable[str]) -> str:
    text = "\n".join(lines).encode("utf-8", "surrogateescape")
    return hashlib.sha256(text).hexdigest()[:24]

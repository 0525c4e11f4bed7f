"""The one place where shard names are formatted and parsed.

Three spellings of "shard 3 of 10" are met in the field and understood here:

    train-00003-of-00010.tfrecord     DeepLab, TF Object Detection, Beam's sinks with a suffix
    train.tfrecord-00003-of-00010     TensorFlow Datasets
    train-00003-of-00010              no extension
"""

import dataclasses
import re
from collections.abc import Iterator

TFRECORD_EXTENSIONS = (".tfrecord", ".tfrecords", ".tfrec", ".tfr", ".record")
EXTENSIONS = {
    "tfrecord": TFRECORD_EXTENSIONS,
    "tar": (".tar", ".tgz"),
    "parquet": (".parquet", ".pq"),
    "array_record": (".array_record", ".arrayrecord"),
}
_FORMATS = {extension: name for name, listed in EXTENSIONS.items() for extension in listed}
_EXTENSION = "|".join(re.escape(extension) for extension in _FORMATS)
_SHARD = re.compile(
    rf"^(?P<stem>.+?)(?P<before>(?:{_EXTENSION})(?:\.gz)?)?"
    rf"-(?P<index>\d{{5,}})-of-(?P<count>\d{{5,}})"
    rf"(?P<after>(?:{_EXTENSION})?(?:\.gz)?)\Z",
    re.DOTALL,  # a file name may hold line breaks
)
_KNOWN = re.compile(rf"({_EXTENSION})(?:\.gz)?\Z")


@dataclasses.dataclass(frozen=True, order=True)
class ShardName:
    """`stem`, number `index` of `count`: what the three spellings have in common.

    Raises:
        ValueError: when index is not within [0, count).
    """

    stem: str
    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ValueError(
                f"shard {self.index} of {self.count} of {self.stem!r} does not exist: "
                f"shards are numbered 0 to {self.count - 1}"
            )

    def __str__(self) -> str:
        """The name without an extension: `train-00003-of-00010`."""
        return f"{self.stem}-{self.index:05d}-of-{self.count:05d}"

    def spellings(self, extension: str) -> tuple[str, str]:
        """The two file names that a shard with this extension (".tfrecord") may have."""
        return (
            f"{self}{extension}",
            f"{self.stem}{extension}-{self.index:05d}-of-{self.count:05d}",
        )


def parse_shard_name(name: str) -> ShardName | None:
    """Parses a file name (no folder) in any of the three spellings; None for any other name."""
    match = _SHARD.match(name)
    if match is None or not 0 <= int(match["index"]) < int(match["count"]):
        return None
    return ShardName(match["stem"], int(match["index"]), int(match["count"]))


def format_of(name: str) -> str | None:
    """The format that a file name says, a key of EXTENSIONS, plain or gzip; None for no shard.

    A numbered name without an extension is a TFRecord file.
    """
    if (match := _KNOWN.search(name)) is not None:
        return _FORMATS[match[1]]
    match = _SHARD.match(name)
    if match is None or parse_shard_name(name) is None:
        return None
    return _FORMATS[(match["before"] or ".tfrecord").removesuffix(".gz")]


def shard_id(relative_path: str) -> str:
    """The name of a shard file in the output: its relative path without any extension.

    >>> shard_id("a/train.tfrecord-00003-of-00010")
    'a/train-00003-of-00010'
    >>> shard_id("a/all.tfrecord.gz")
    'a/all'
    """
    folder, slash, name = relative_path.rpartition("/")
    parsed = parse_shard_name(name)
    return folder + slash + (str(parsed) if parsed else _KNOWN.sub("", name))


def split_at_count(pattern: str) -> tuple[str, int] | None:
    """Splits `train.tfrecord@10` into ("train.tfrecord", 10); None when there is no `@N`."""
    match = re.match(r"^(.+)@(\d+)$", pattern)
    return (match[1], int(match[2])) if match else None


def expand_at_count(base: str, count: int) -> Iterator[tuple[str, ...]]:
    """Yields for each of `count` shards the file names it may have, the likeliest first.

    Args:
        base: a path with or without an extension, `data/train.tfrecord`.
        count: number of shards, at least 1.
    """
    match = _KNOWN.search(base)
    extension = match[0] if match else ""
    stem = base[: len(base) - len(extension)]
    extensions = (extension,) if extension else ("", *_FORMATS)
    for i in range(count):
        shard = ShardName(stem, i, count)
        yield tuple(name for ext in extensions for name in shard.spellings(ext))

"""All formats by name, and the reading and writing of shards by them."""

import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from typing import IO

from transforms import storage
from transforms.formats import array_record, parquet, tar, tfrecord
from transforms.formats.base import BadRecord, ExampleWriter


@dataclasses.dataclass(frozen=True)
class OutputFormat:
    """How one file of a shard is written.

    Attributes:
        extension: of the file.
        open_writer: see ShardFormat.
    """

    extension: str
    open_writer: Callable[[IO[bytes], str], ExampleWriter]


FOLDER = "folder"  # of picture files, see folder.py
READERS = {
    "tfrecord": tfrecord.read_examples,
    "tar": tar.read_examples,
    "parquet": parquet.read_examples,
    "array_record": array_record.read_examples,
}
WRITERS = {
    "tfrecord": OutputFormat(tfrecord.EXTENSION, tfrecord.open_writer),
    "tar": OutputFormat(tar.EXTENSION, tar.open_writer),
    "tar.gz": OutputFormat(f"{tar.EXTENSION}.gz", tar.open_gzip_writer),
    "parquet": OutputFormat(parquet.EXTENSION, parquet.open_writer),
    "array_record": OutputFormat(array_record.EXTENSION, array_record.open_writer),
}
INPUT_FORMATS = (*READERS, FOLDER)
OUTPUT_FORMATS = (*WRITERS, FOLDER)


def read_shard_file(
    path: str, name: str, groups: tuple[int, int] | None = None
) -> Iterator[bytes | BadRecord]:
    """The records of a file of a format, as serialized tf.Examples, in order.

    Args:
        name: of the format, a key of READERS.
        groups: of a Parquet file, these row groups only, [first, end).

    Raises:
        OSError: the file cannot be opened or read.
    """
    with storage.open_read(path) as file:
        if name == "parquet" and not file.seekable():
            with tempfile.TemporaryFile() as copied:  # read from its end, and then by columns
                storage.copy_to(file, copied)
                yield from READERS[name](copied)
        elif groups is not None:
            yield from parquet.read_groups(file, groups)
        else:
            yield from READERS[name](file)

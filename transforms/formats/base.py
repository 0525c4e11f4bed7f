"""What a format of shards is: a way to read a file as tf.Examples, and one to write them.

A serialized tf.Example is the record of the whole pipeline; a format maps all of it, the picture
included, to what the format's own tools expect, and back. Readers and writers know nothing of one
another, so that any format turns into any other.
"""

import dataclasses
from collections.abc import Iterator
from typing import IO, Protocol

# Of one record in memory. What is larger is skipped, and told of.
MAX_RECORD_BYTES = 1 << 28

# Names of features that formats keep where their tools look for them: DeepLab's and TF Object
# Detection's.
IMAGE, MASK = "image/encoded", "image/segmentation/class/encoded"
CONFIDENCE = "image/segmentation/confidence/encoded"
NAME, LABEL = "image/filename", "image/class/label"


@dataclasses.dataclass(frozen=True)
class BadRecord:
    """A record that could not be read, and why. `last` when nothing after it can be read."""

    message: str
    last: bool


class ExampleWriter(Protocol):
    """Takes serialized tf.Examples in order; the same ones give the same bytes."""

    def write(self, example: bytes) -> None:
        """Appends one. Raises OSError."""

    def finish(self) -> None:
        """Writes what ends the file, which stays open. Raises OSError."""

    def close(self) -> None:
        """Lets go of what is left of an unfinished file; harmless after `finish`."""


class ShardFormat(Protocol):
    """A module that reads and writes one format."""

    EXTENSION: str

    def read_examples(self, file: IO[bytes]) -> Iterator[bytes | BadRecord]:
        """Reads a file, open in binary mode at its beginning, in order and in bounded memory.

        What cannot be read is a BadRecord in its place. Raises OSError only when the storage fails.
        """

    def open_writer(self, file: IO[bytes], scratch: str) -> ExampleWriter:
        """A writer to a file that is open for writing. `scratch` is a local folder for what must
        be put aside until the end."""

"""Parquet."""

from collections.abc import Iterator
from typing import IO

from transforms.formats.base import BadRecord, ExampleWriter

EXTENSION = ".parquet"


def read_examples(file: IO[bytes]) -> Iterator[bytes | BadRecord]:
    raise NotImplementedError


def open_writer(file: IO[bytes], scratch: str) -> ExampleWriter:
    raise NotImplementedError

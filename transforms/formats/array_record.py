"""ArrayRecord files of tf.Examples, by Google's own library, as TensorFlow Datasets writes them.

Its reader works by the index at the end of the file and on local files only: objects are copied
first. Each record has a checksum, and a damaged one costs itself alone; a cut file has lost its
index, and with it all.
"""

import contextlib
import os
import tempfile
import uuid
from collections.abc import Iterator
from typing import IO, Any

from transforms import storage
from transforms.formats import base
from transforms.formats.base import BadRecord, ExampleWriter

EXTENSION = ".array_record"
_OPTIONS = "group_size:1,uncompressed"  # each record can be read alone; pictures are packed


def read_examples(file: IO[bytes]) -> Iterator[bytes | BadRecord]:
    """See ShardFormat."""
    name = getattr(file, "name", None)
    if isinstance(name, str | bytes) and os.path.isfile(name):
        yield from _read(os.fsdecode(name))
        return
    with tempfile.NamedTemporaryFile() as copied:
        storage.copy_to(file, copied)
        yield from _read(copied.name)


def _read(path: str) -> Iterator[bytes | BadRecord]:
    from array_record.python.array_record_module import ArrayRecordReader

    reader = ArrayRecordReader(path)
    try:
        if not reader.ok():
            yield BadRecord("it is no ArrayRecord file, or its end is lost", last=True)
            return
        for index in range(reader.num_records()):
            try:
                (record,) = reader.read([index])
            except (RuntimeError, IndexError, ValueError) as error:
                yield BadRecord(f"record {index} is damaged: {str(error)[:200]}", last=False)
                continue
            if len(record) > base.MAX_RECORD_BYTES:
                message = f"record {index} has {len(record):,} bytes, more than is allowed"
                yield BadRecord(message, last=False)
            else:
                yield bytes(record)
    finally:
        with contextlib.suppress(RuntimeError):  # says once more what is wrong with the file
            reader.close()


class _Writer:
    """Writes a file of its own, for the library takes names only, and copies it at the end."""

    def __init__(self, file: IO[bytes], scratch: str) -> None:
        from array_record.python.array_record_module import ArrayRecordWriter

        self._file = file
        self._path = os.path.join(scratch, f"{uuid.uuid4().hex}{EXTENSION}")
        self._lock = storage.open_new(self._path)  # held, so that cleaners leave the file alone
        self._writer: Any = ArrayRecordWriter(self._path, _OPTIONS)

    def write(self, example: bytes) -> None:
        self._writer.write(example)

    def finish(self) -> None:
        self._writer.close()
        with storage.open_read(self._path) as written:
            while part := written.read(1 << 20):
                self._file.write(part)
        self.close()

    def close(self) -> None:
        if self._writer.is_open():
            self._writer.close()
        self._lock.close()
        storage.delete(self._path)


def open_writer(file: IO[bytes], scratch: str) -> ExampleWriter:
    """See ShardFormat."""
    return _Writer(file, scratch)

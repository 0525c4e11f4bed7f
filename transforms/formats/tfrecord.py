"""TFRecord files: framed records, each with the checksum of its length and of its data.

The format (tensorflow/core/lib/io/record_writer.h), little endian:

    uint64 length | uint32 masked crc32c of the length | length bytes | uint32 masked crc32c of them

Read here rather than by TensorFlow because its readers stop for good at the first damaged byte,
name no position, and open only the file systems that TensorFlow knows. A record whose data is
damaged, or too large to be held in memory, is skipped; a damaged length ends the file, for nothing
behind it can be trusted.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import IO

import google_crc32c

from transforms.formats.base import MAX_RECORD_BYTES, BadRecord, ExampleWriter
from transforms.formats.unpacked import Unpacked, skip, unpacked

EXTENSION = ".tfrecord"
_MASK_DELTA = 0xA282EAD8
_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")


def masked_crc32c(data: bytes) -> int:
    """The checksum that TFRecord stores: crc32c rotated right by 15 bits plus a constant."""
    crc = google_crc32c.value(data)
    rotated = (crc >> 15) | (crc << 17)
    return int((rotated + _MASK_DELTA) & 0xFFFFFFFF)


def read_records(file: IO[bytes]) -> Iterator[bytes | BadRecord]:
    """Reads the records of a TFRecord file in order, plain or gzip (told by its first bytes).

    Args:
        file: opened for reading in binary mode, at its beginning.

    Yields:
        The data of each record, or a BadRecord in its place.

    Raises:
        OSError: when the storage fails, not when the content is bad.
    """
    stream = unpacked(file)
    number = 0
    try:
        while header := stream.read(_HEADER.size):
            data = _read_record(stream, header, number)
            yield data
            if isinstance(data, BadRecord) and data.last:
                return
            number += 1
    except zlib.error as error:
        yield BadRecord(f"record {number}: the gzip stream is damaged ({error})", last=True)


def _read_record(stream: Unpacked, header: bytes, number: int) -> bytes | BadRecord:
    if len(header) < _HEADER.size:
        return BadRecord(f"record {number}: the file ends within the record's length", last=True)
    length, length_crc = _HEADER.unpack(header)
    if masked_crc32c(header[:8]) != length_crc:
        return BadRecord(
            f"record {number}: the checksum of its length is wrong; the file is damaged here "
            "or is no TFRecord file, and the rest of it is lost",
            last=True,
        )
    if length > MAX_RECORD_BYTES:
        missing = length + _FOOTER.size - skip(stream, length + _FOOTER.size)
        lost = "; the file ends within it" if missing else ""
        return BadRecord(
            f"record {number} has {length} bytes, more than the {MAX_RECORD_BYTES} allowed{lost}",
            last=missing > 0,
        )
    data = stream.read(length)
    footer = stream.read(_FOOTER.size)
    if len(data) < length or len(footer) < _FOOTER.size:
        return BadRecord(
            f"record {number}: the file ends after {len(data)} of {length} bytes; "
            "it was cut, and what followed is lost",
            last=True,
        )
    if masked_crc32c(data) != _FOOTER.unpack(footer)[0]:
        return BadRecord(
            f"record {number}: the checksum of its {length} bytes is wrong", last=False
        )
    return data


def write_record(file: IO[bytes], data: bytes) -> None:
    """Appends one record to a TFRecord file that is open for writing in binary mode."""
    length = struct.pack("<Q", len(data))
    file.write(length + _FOOTER.pack(masked_crc32c(length)))
    file.write(data)
    file.write(_FOOTER.pack(masked_crc32c(data)))


# the interface of formats, see base.py
read_examples = read_records


class _Writer:
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, example: bytes) -> None:
        write_record(self._file, example)

    def finish(self) -> None:
        """Nothing ends a TFRecord file."""

    def close(self) -> None:
        """Nothing was put aside."""


def open_writer(file: IO[bytes], scratch: str) -> ExampleWriter:
    """See ShardFormat."""
    return _Writer(file)

"""TFRecord files: framed records, each with the checksum of its length and of its data.

The format (tensorflow/core/lib/io/record_writer.h), little endian:

    uint64 length | uint32 masked crc32c of the length | length bytes | uint32 masked crc32c of them

Read here rather than by TensorFlow because its readers stop for good at the first damaged byte,
name no position, and open only the file systems that TensorFlow knows. A record whose data is
damaged, or too large to be held in memory, is skipped; a damaged length ends the file, for nothing
behind it can be trusted.
"""

import dataclasses
import struct
import zlib
from collections.abc import Iterator
from typing import IO

import google_crc32c

MAX_RECORD_BYTES = 1 << 28
_GZIP_MAGIC = b"\x1f\x8b"
_MASK_DELTA = 0xA282EAD8
_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_CHUNK_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class BadRecord:
    """A record that could not be read, and why. `last` when nothing after it can be read."""

    message: str
    last: bool


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
    magic = file.read(2)
    stream = _Gunzip(magic, file) if magic == _GZIP_MAGIC else _Plain(magic, file)
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


def _read_record(stream: "_Plain | _Gunzip", header: bytes, number: int) -> bytes | BadRecord:
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
        missing = length + _FOOTER.size
        while missing and (part := stream.read(min(missing, _CHUNK_BYTES))):
            missing -= len(part)
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


class _Plain:
    """Reads exactly n bytes, or fewer at the end. Never allocates more than the file holds."""

    def __init__(self, begin: bytes, file: IO[bytes]) -> None:
        self._begin = begin
        self._file = file

    def read(self, size: int) -> bytes:
        data, self._begin = self._begin[:size], self._begin[size:]
        if len(data) + _CHUNK_BYTES >= size:
            return data + self._file.read(size - len(data)) if data else self._file.read(size)
        parts = [data]
        missing = size - len(data)
        while missing and (part := self._file.read(min(missing, 16 * _CHUNK_BYTES))):
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)


class _Gunzip:
    """The same for a gzip stream, several members included, inflated by chunks of bounded size."""

    def __init__(self, begin: bytes, file: IO[bytes]) -> None:
        self._file = file
        self._raw = begin
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._ready = bytearray()

    def read(self, size: int) -> bytes:
        while len(self._ready) < size and self._inflate_more():
            pass
        with memoryview(self._ready) as ready:
            data = bytes(ready[:size])
        del self._ready[:size]
        return data

    def _inflate_more(self) -> bool:
        if self._inflate.eof:
            self._raw = self._inflate.unused_data or self._file.read(_CHUNK_BYTES)
            if not self._raw:
                return False
            self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._raw = self._raw or self._file.read(_CHUNK_BYTES)
        data = self._inflate.decompress(self._raw, _CHUNK_BYTES)
        if not (data or self._raw or self._inflate.eof):
            raise zlib.error("it was cut: the file ends before the stream does")
        self._raw = self._inflate.unconsumed_tail
        self._ready += data
        return True

"""Bytes of a file from front to back, inflated where it is gzip; never more than is asked for."""

import zlib
from typing import IO, Protocol

_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK_BYTES = 1 << 20


class Unpacked(Protocol):
    """A stream that gives exactly n bytes, or fewer at its end.

    Raises zlib.error where a gzip stream is damaged, OSError where the storage fails.
    """

    def read(self, size: int) -> bytes: ...


def unpacked(file: IO[bytes]) -> Unpacked:
    """The content of a file that stands at its beginning; gzip is told by the first bytes."""
    magic = file.read(len(_GZIP_MAGIC))
    return Gunzip(magic, file) if magic == _GZIP_MAGIC else Plain(magic, file)


def skip(stream: Unpacked, size: int) -> int:
    """Reads over so many bytes by parts. Returns how many there were."""
    missing = size
    while missing and (part := stream.read(min(missing, _CHUNK_BYTES))):
        missing -= len(part)
    return size - missing


class Plain:
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


class Gunzip:
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

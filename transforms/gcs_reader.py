"""Reading a large object from front to back: parts that are fetched ahead, in parallel."""

import errno
import io
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import google_crc32c
from google.api_core import exceptions as api

from transforms.gcs_calls import Broken, call

_FIRST_BYTES, _PART_BYTES = 1 << 20, 8 << 20
_AHEAD = 3  # parts, once it is clear that more than the beginning is wanted
_POOL = ThreadPoolExecutor(8 * _AHEAD, "gcs-read")


class Reader(io.RawIOBase):
    """The bytes of one generation of an object. Holds at most _AHEAD + 1 parts in memory."""

    def __init__(self, path: str, blob: Callable[[], Any], size_bytes: int, crc32c: str) -> None:
        """Takes a maker of Blobs: a download changes the one that it is called on."""
        self._path = path
        self._blob = blob
        self._size = size_bytes
        self._expected = crc32c
        self._crc = 0
        self._parts: deque[Future[bytes]] = deque()
        self._asked = 0  # where the next part to be fetched begins
        self._part = b""
        self._at = 0  # within the part
        self._taken = 0  # parts

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Raises OSError; also at the end, when the checksum of all is wrong."""
        while self._at == len(self._part):
            if not self._fetch_more():
                return 0
            self._part, self._at = self._parts.popleft().result(), 0
            self._taken += 1
            self._crc = google_crc32c.extend(self._crc, self._part)
            if not self._parts and self._asked == self._size:
                self._check()
        count = min(len(buffer), len(self._part) - self._at)
        buffer[:count] = self._part[self._at : self._at + count]
        self._at += count
        return count

    def _fetch_more(self) -> bool:
        """Keeps parts under way; False when there are none left."""
        while self._asked < self._size and len(self._parts) <= min(self._taken, _AHEAD):
            size = min(_PART_BYTES, _FIRST_BYTES << min(self._taken + len(self._parts), 3))
            stop = min(self._size, self._asked + size)
            self._parts.append(_POOL.submit(self._get, self._asked, stop))
            self._asked = stop
        return bool(self._parts)

    def _get(self, start: int, stop: int) -> bytes:
        def get() -> bytes:
            data: bytes = self._blob().download_as_bytes(
                start=start, end=stop - 1, raw_download=True, checksum=None, retry=None
            )
            if len(data) != stop - start:
                raise Broken(f"got {len(data)} of the {stop - start} bytes from {start} on")
            return data

        try:
            return call(self._path, get, refused=(api.NotFound,))
        except api.NotFound as error:
            raise OSError(
                errno.ESTALE, "it was replaced or deleted while it was read", self._path
            ) from error

    def _check(self) -> None:
        if (found := f"{self._crc:08x}") != self._expected:
            raise OSError(
                errno.EIO, f"crc32c is {found}, the service has {self._expected}", self._path
            )

    def close(self) -> None:
        for part in self._parts:
            part.cancel()
        self._parts.clear()
        super().close()

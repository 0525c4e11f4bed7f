"""The members of a tar archive, read from front to back. Archives are hostile.

Headers are parsed by Python's tarfile; the loop around is ours, for tarfile ends an archive in
silence at the first damaged header, keeps all headers in memory, and reads extended headers of any
declared size. Here nothing is held that is larger than a limit, nothing is written anywhere, and
after damage the next header that is whole is looked for.
"""

import dataclasses
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from transforms.formats.base import MAX_RECORD_BYTES
from transforms.formats.unpacked import Unpacked, skip

BLOCK_BYTES = tarfile.BLOCKSIZE
_EXTENDED_BYTES = 1 << 20  # of a name, or of a header of POSIX attributes
_BEHIND_BYTES = 1 << 20  # that are looked at behind the end
_ENCODING = ("utf-8", "surrogateescape")
_OF_THE_NEXT = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME)
_OF_NO_USE = (tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK)
_KINDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


class Member(NamedTuple):
    """One file of an archive; `problem` says why there is no data, "" when there is."""

    name: str
    data: bytes
    problem: str = ""


@dataclasses.dataclass(frozen=True)
class Damage:
    """What is wrong between members.

    Attributes:
        message: what was found, and where.
        last: nothing more can be read.
        behind: it is behind the end mark, so that the members before it are all there.
    """

    message: str
    last: bool
    behind: bool = False


def read_members(stream: Unpacked) -> Iterator[Member | Damage]:
    """All regular files in order, and what was met instead of some.

    Folders are left out. Raises OSError when the storage fails.
    """
    place = _Place(stream)
    try:
        extended: dict[str, str] = {}
        for header in _headers(place):
            if isinstance(header, Damage):
                yield header
            elif header.type in _OF_THE_NEXT:
                extended |= _extended(header, place)
            elif header.type in _OF_NO_USE:
                place.skip_padded(header.size)
            else:
                if (member := _member(header, extended, place)) is not None:
                    yield member
                extended = {}
            if place.is_cut:
                yield Damage(f"it ends at byte {place.at:,} within a member; it was cut", last=True)
                return
    except zlib.error as error:
        yield Damage(f"the gzip stream is damaged behind byte {place.at:,} ({error})", last=True)


def _headers(place: "_Place") -> Iterator[tarfile.TarInfo | Damage]:
    """The headers of members, whose data is read by who asks for them; ends at the end."""
    damaged = ended = False
    while block := place.read(BLOCK_BYTES):
        if damaged and not block.strip(b"\0"):
            ended = True
            continue
        try:
            header = tarfile.TarInfo.frombuf(block, *_ENCODING)
            if header.size < 0:
                raise tarfile.HeaderError("its size is negative")
        except (tarfile.HeaderError, ValueError) as error:
            if not damaged and not block.strip(b"\0"):
                if not place.is_empty_to_the_end():
                    what = (
                        f"there is more behind the end mark, at byte {place.at:,}; archives that "
                    )
                    what += "were joined must be unpacked and packed again"
                    yield Damage(what, last=True, behind=True)
                return
            if not damaged:
                at = place.at - len(block)
                what = f"there is no header at byte {at:,}" if at else "it is no tar archive"
                yield Damage(f"{what} ({error})", last=False)
            damaged, ended = True, False  # until a block is a header again
            continue
        damaged = ended = False
        yield header
    if place.at and not ended:
        yield Damage(f"it ends at byte {place.at:,} without an end mark; it was cut", last=True)


class _Place:
    """A stream that knows where it is, and whether it ended before it should."""

    def __init__(self, stream: Unpacked) -> None:
        self._stream = stream
        self.at = 0
        self.is_cut = False

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self.at += len(data)
        return data

    def read_padded(self, size: int) -> bytes:
        data = self.read(size)
        padding = self.read(-size % BLOCK_BYTES)
        self.is_cut = len(data) < size or len(padding) < -size % BLOCK_BYTES
        return data

    def skip_padded(self, size: int) -> None:
        size += -size % BLOCK_BYTES
        skipped = skip(self._stream, size)
        self.at += skipped
        self.is_cut = skipped < size

    def is_empty_to_the_end(self) -> bool:
        """Whether only zeros follow, as far as is looked."""
        left = _BEHIND_BYTES
        while left and (data := self.read(BLOCK_BYTES)):
            if data.strip(b"\0"):
                return False
            left -= len(data)
        return True


def _member(info: tarfile.TarInfo, extended: Mapping[str, str], place: _Place) -> Member | None:
    """Reads a member, or over it. None for folders."""
    name = extended.get("path", info.name)
    try:
        size = int(extended.get("size", info.size))
    except ValueError:
        size = -1
    if "problem" in extended or size < 0:
        place.skip_padded(info.size)
        return Member(name, b"", extended.get("problem", "its size is no number"))
    kind = _KINDS.get(info.type, "")
    if any(key.startswith("GNU.sparse") for key in extended):
        kind = "a sparse file"
    if kind or info.type == tarfile.DIRTYPE:
        # links and devices have no data, whatever they say; of sparse ones what is there is passed
        place.skip_padded(size if kind == "a sparse file" else 0)
        return Member(name, b"", f"it is {kind}, expected a regular file") if kind else None
    if info.type not in tarfile.REGULAR_TYPES:
        place.skip_padded(size)
        return Member(name, b"", f"it is of the unknown type {info.type!r}")
    if size > MAX_RECORD_BYTES:
        place.skip_padded(size)
        return Member(
            name, b"", f"it has {size:,} bytes, more than the {MAX_RECORD_BYTES:,} allowed"
        )
    data = place.read_padded(size)
    if len(data) < size:
        return Member(name, b"", f"the archive ends after {len(data):,} of {size:,} bytes")
    return Member(name, data)


def _extended(info: tarfile.TarInfo, place: _Place) -> dict[str, str]:
    """What a header says of the next member: its name, size, and whether it is sparse."""
    if info.size > _EXTENDED_BYTES:
        place.skip_padded(info.size)
        return {"problem": f"its extended header has {info.size:,} bytes"}
    data = place.read_padded(info.size)
    if place.is_cut:
        return {"problem": "the archive ends within its extended header"}
    if info.type == tarfile.GNUTYPE_LONGNAME:
        return {"path": data.partition(b"\0")[0].decode(*_ENCODING)}
    found: dict[str, str] = {}
    while data:
        length_text, _, _ = data.partition(b" ")
        try:
            length = int(length_text) if length_text.isdigit() and len(length_text) < 8 else 0
            keyword, equals, value = data[len(length_text) + 1 : length - 1].partition(b"=")
            if not length or not equals or length > len(data):
                raise ValueError
        except ValueError:
            return {"problem": "its extended header is damaged"}
        data = data[length:]
        name = keyword.decode(*_ENCODING)
        if name in ("path", "size") or name.startswith("GNU.sparse"):
            found[name] = value.decode(*_ENCODING)
    return found

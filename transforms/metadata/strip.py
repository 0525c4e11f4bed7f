"""Metadata of encoded pictures: what there is, and taking it away without touching the pixels.

Kept are the orientation, for without it the picture is another one, and the term that says that a
picture is synthetic (see transforms/picture_files.py). All else goes: EXIF with the place, the
time, the camera and its preview; ICC profiles, XMP, IPTC, comments, and what follows the picture's
end, where phones put films. JPEG, PNG, WebP and GIF lose their pieces; others, TIFF and AVIF, are
written anew as PNG of the same pixels, if there is anything to take.
"""

import contextlib
import io
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from typing import Literal, NamedTuple

from PIL import ExifTags, Image, ImageOps

from transforms.failures import Failure
from transforms.metadata.pieces import EXIF_HEADER, XMP_HEADER, XMP_KEYWORD, Piece, pieces
from transforms.picture_files import xmp_packet

Policy = Literal["keep", "strip", "refuse"]
_SYNTHETIC = re.compile(rb"newscodes/digitalsourcetype/(\w{1,64})")
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
# Tags of a TIFF that say how its pixels are stored (TIFF 6.0, and Adobe's supplements).
_TIFF_LAYOUT = frozenset(
    (
        *(*range(254, 260), *range(262, 267), 273, 274, 277, 278, 279, *range(280, 285)),
        *(*range(290, 294), 296, 297, 301, *range(317, 326), 330, 332, 334, 336, 338, 339, 340),
        *(341, 347, *range(512, 522), *range(529, 533)),
    )
)
_TIFF_KINDS = {700: "XMP", 34665: "EXIF", 34853: "GPS", 34675: "ICC", 270: "comment"}


class Cleaned(NamedTuple):
    """An encoded picture without metadata.

    Attributes:
        data: the file.
        removed: kinds of metadata that it had, sorted: "EXIF", "GPS", "ICC", "XMP", "comment", ...
        format: "png" where it is written anew as one; else "".
    """

    data: bytes
    removed: tuple[str, ...] = ()
    format: str = ""


def metadata_of(data: bytes) -> tuple[str, ...]:
    """Kinds of metadata that a picture has, sorted. Raises ValueError for a broken file."""
    return _kinds(data, pieces(data))


def strip(data: bytes, orientation: int) -> Cleaned:
    """Takes all metadata from a picture that can be decoded.

    Args:
        orientation: of EXIF, 1 to 8, that a reader applies; it stays.

    Raises:
        Failure: its parts cannot be told apart, or its format holds none but with metadata.
    """
    try:
        found = pieces(data)
        removed = _kinds(data, found)
    except ValueError as error:
        told = f"{error}; --metadata keep leaves it as it is"
        raise Failure("encode", "metadata", told) from error
    if not removed:
        return Cleaned(data)
    if found is None:
        return Cleaned(_as_png(data), removed, "png")
    return Cleaned(_joined(found, orientation, _synthetic(found)), removed)


def _kinds(data: bytes, found: list[Piece] | None) -> tuple[str, ...]:
    if found is None:
        return _kinds_by_pillow(data)
    kinds = {piece.kind for piece in found if piece.kind}
    return tuple(sorted(kinds | ({"GPS"} if "EXIF" in kinds and _has_place(data) else set())))


def _joined(found: list[Piece], orientation: int, source: bytes) -> bytes:
    kept = [piece for piece in found if not piece.kind]
    exif = orientation_exif(orientation) if orientation != 1 else b""
    xmp = xmp_packet(source.decode("ascii", "replace")).encode() if source else b""
    first = found[0]
    if first.name == b"SOI":
        jfif = [_without_preview(piece) for piece in found if piece.kind == "preview"]
        added = [
            b"\xff\xe1" + struct.pack(">H", 2 + len(body)) + body
            for body in (exif and EXIF_HEADER + exif, xmp and XMP_HEADER + xmp)
            if body
        ]
        return b"".join([first.data, *jfif[:1], *added, *(piece.data for piece in kept[1:])])
    if first.name == b"RIFF":
        return _webp(kept, exif, xmp)
    if first.name == b"header":
        return b"".join(piece.data for piece in kept)
    text = xmp and XMP_KEYWORD + b"\0\0\0\0\0" + xmp
    added = [_chunk(name, body) for name, body in ((b"eXIf", exif), (b"iTXt", text)) if body]
    return b"".join([*(piece.data for piece in kept[:2]), *added, *(p.data for p in kept[2:])])


def orientation_exif(orientation: int) -> bytes:
    """EXIF (a TIFF of one entry) that says nothing but the orientation."""
    entry = struct.pack(">HHIHH", ExifTags.Base.Orientation, 3, 1, orientation, 0)
    return b"MM\0*\0\0\0\x08\0\x01" + entry + b"\0\0\0\0"


def _without_preview(piece: Piece) -> bytes:
    """A JFIF segment with version and density alone; nothing of an extension."""
    body = piece.data.partition(b"JFIF\0")[2]
    if len(body) < 7 or piece.data[4:9] != b"JFIF\0":
        return b""
    return b"\xff\xe0\0\x10JFIF\0" + body[:7] + b"\0\0"


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _webp(kept: list[Piece], exif: bytes, xmp: bytes) -> bytes:
    body = b""
    extended = any(piece.name == b"VP8X" for piece in kept)
    for piece in kept[1:]:
        data = piece.data
        if piece.name == b"VP8X":
            flags = data[8] & 0b00010010 | (0b1000 if exif else 0) | (0b100 if xmp else 0)
            data = data[:8] + bytes([flags]) + data[9:]
        body += data + b"\0" * (len(data) % 2)
    for name, added in ((b"EXIF", exif), (b"XMP ", xmp)):
        if added and extended:
            body += name + struct.pack("<I", len(added)) + added + b"\0" * (len(added) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def _synthetic(found: list[Piece]) -> bytes:
    """IPTC's term for a source that is no camera, where XMP has one; b"" if none."""
    for piece in found:
        if piece.kind == "XMP" and (match := _SYNTHETIC.search(piece.data)):
            return match[1] if b"lgorithmic" in match[1] else b""
    return b""


def synthetic_source(data: bytes) -> str:
    """IPTC's term for what made a picture, where its XMP says that no camera did; else ""."""
    try:
        found = pieces(data)
    except ValueError:
        return ""
    return _synthetic(found or []).decode("ascii", "replace")


def _has_place(data: bytes) -> bool:
    try:
        with _quietly(), Image.open(io.BytesIO(data)) as image:
            return ExifTags.IFD.GPSInfo in image.getexif()
    except Exception:  # EXIF that nobody can read: it goes all the same
        return False


def _kinds_by_pillow(data: bytes) -> tuple[str, ...]:
    """Of formats whose pieces are not told apart."""
    kinds: set[str] = set()
    try:
        with _quietly(), Image.open(io.BytesIO(data)) as image:
            if image.format == "TIFF":
                tags = set(image.tag_v2) - _TIFF_LAYOUT  # type: ignore[attr-defined]
                kinds |= {_TIFF_KINDS.get(tag, "other") for tag in tags}
            else:
                kinds |= {"EXIF"} if len(image.getexif()) else set()
                kinds |= {"GPS"} if ExifTags.IFD.GPSInfo in image.getexif() else set()
                names = {"icc_profile": "ICC", "xmp": "XMP", "comment": "comment"}
                kinds |= {kind for name, kind in names.items() if image.info.get(name)}
    except Exception as error:  # whatever Pillow's plugins raise for bad files
        raise ValueError(f"{type(error).__name__}: {error}") from error
    return tuple(sorted(kinds))


def _as_png(data: bytes) -> bytes:
    """The pixels of a picture, upright, with nothing else. Raises a Failure."""
    with _quietly(), Image.open(io.BytesIO(data)) as image:
        image.load()
        upright = ImageOps.exif_transpose(image)
        if upright.mode not in _PNG_MODES:
            raise Failure(
                "encode",
                "metadata",
                f"{image.format} of mode {upright.mode} has metadata, and no format without them "
                "that holds its pixels is known; clean it first, or give --metadata keep",
            )
        kept = {n: v for n, v in upright.info.items() if n == "transparency"}
        upright.info.clear()
        upright.info.update(kept)
        buffer = io.BytesIO()
        upright.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Odd metadata is what is looked for here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield

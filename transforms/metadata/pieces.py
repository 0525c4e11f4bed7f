"""A picture file as the pieces that it is made of, each with what kind of metadata it is.

Joined, the pieces are the file again, byte for byte. Nothing is decoded, so that what stays is
what it was. What is broken raises ValueError: the pictures come from strangers.
"""

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
EXIF_HEADER = b"Exif\0\0"
XMP_HEADER = b"http://ns.adobe.com/xap/1.0/\0"
XMP_KEYWORD = b"XML:com.adobe.xmp"
_JPEG_EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/\0"
_JPEG_NEXT = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)  # a marker that ends a scan
_JPEG_BARE = (0x01, *range(0xD0, 0xD8))  # markers without a length
# That change how a picture looks, or how it is decoded.
_PNG_KEPT = frozenset(
    b"IHDR PLTE IDAT IEND tRNS gAMA cHRM sRGB sBIT cICP mDCV cLLI bKGD hIST acTL fcTL fdAT "
    b"pHYs".split()
)
_PNG_KINDS = {b"eXIf": "EXIF", b"iCCP": "ICC", b"tIME": "time", b"zTXt": "comment"}
_PNG_KINDS |= {b"tEXt": "comment"}
_WEBP_KEPT = frozenset((b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"))
_WEBP_KINDS = {b"EXIF": "EXIF", b"ICCP": "ICC", b"XMP ": "XMP"}
_GIF_LOOPS = (b"NETSCAPE2.0", b"ANIMEXTS1.0")


class Piece(NamedTuple):
    """A stretch of a file.

    Attributes:
        kind: "" for what the picture needs; else "EXIF", "ICC", "XMP", "comment", "time",
            "preview", "trailer" (what follows the picture's end) or "other".
        data: its bytes.
        name: of the chunk or segment.
    """

    kind: str
    data: bytes
    name: bytes = b""


def pieces(data: bytes) -> list[Piece] | None:
    """The pieces of a JPEG, PNG, WebP or GIF; None for other formats. Raises ValueError."""
    if data.startswith(b"\xff\xd8"):
        return list(_jpeg(data))
    if data.startswith(PNG_MAGIC):
        return list(_png(data))
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return list(_webp(data))
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return list(_gif(data))
    return None


def _jpeg(data: bytes) -> Iterator[Piece]:
    """Segments, and scans with the segment that begins them (ITU T.81, annex B)."""
    yield Piece("", data[:2], b"SOI")
    at = 2
    while at < len(data):
        start = data.find(b"\xff", at)
        if start != at:
            yield Piece("other", data[at : start if start > 0 else len(data)])
            if start < 0:
                return
        end = start + 1
        while end < len(data) and data[end] == 0xFF:  # fill bytes
            end += 1
        if end >= len(data):
            yield Piece("", data[start:], b"end")
            return
        marker, end = data[end], end + 1
        if marker == 0xD9:
            yield Piece("", data[start:end], b"EOI")
            if end < len(data):
                yield Piece("trailer", data[end:])
            return
        if marker == 0 or marker in _JPEG_BARE:
            yield Piece("other", data[start:end])
            at = end
            continue
        if end + 2 > len(data):
            raise ValueError("a JPEG segment is cut")
        (length,) = struct.unpack_from(">H", data, end)
        if length < 2 or end + length > len(data):
            raise ValueError(f"a JPEG segment is to have {length} bytes, which it has not")
        body, end = data[end + 2 : end + length], end + length
        if marker == 0xDA:
            found = _JPEG_NEXT.search(data, end)
            at = found.start() if found else len(data)
            yield Piece("", data[start:at], b"SOS")
            continue
        yield Piece(_jpeg_kind(marker, body), data[start:end], b"%02X" % marker)
        at = end


def _jpeg_kind(marker: int, body: bytes) -> str:
    if marker == 0xFE:
        return "comment"
    if not 0xE0 <= marker <= 0xEF:
        return ""
    if marker == 0xE0 and body.startswith(b"JFIF\0"):
        return "" if body[12:14] in (b"", b"\0\0") and len(body) <= 14 else "preview"
    if marker == 0xE0 and body.startswith(b"JFXX\0"):
        return "preview"
    if marker == 0xEE and body.startswith(b"Adobe"):  # says how colours are encoded
        return ""
    if marker == 0xE1 and body.startswith((XMP_HEADER, _JPEG_EXTENDED_XMP)):
        return "XMP"
    if marker == 0xE1 and body.startswith(b"Exif"):
        return "EXIF"
    if marker == 0xE2 and body.startswith(b"ICC_PROFILE\0"):
        return "ICC"
    return "other"


def _png(data: bytes) -> Iterator[Piece]:
    yield Piece("", PNG_MAGIC)
    at = len(PNG_MAGIC)
    while at < len(data):
        if at + 12 > len(data):
            raise ValueError("a PNG chunk is cut")
        (length,) = struct.unpack_from(">I", data, at)
        name, end = data[at + 4 : at + 8], at + 12 + length
        if end > len(data):
            raise ValueError(f"a PNG chunk is to have {length} bytes, which it has not")
        kind = "" if name in _PNG_KEPT else _PNG_KINDS.get(name, "other")
        if name == b"iTXt":
            kind = "XMP" if data.startswith(XMP_KEYWORD + b"\0", at + 8) else "comment"
        yield Piece(kind, data[at:end], name)
        at = end
        if name == b"IEND":
            if at < len(data):
                yield Piece("trailer", data[at:])
            return


def _webp(data: bytes) -> Iterator[Piece]:
    (size,) = struct.unpack_from("<I", data, 4)
    stop = 8 + size
    if stop > len(data) or size < 4:
        raise ValueError(f"a WebP is to have {stop} bytes, which it has not")
    yield Piece("", data[:12], b"RIFF")
    at = 12
    while at < stop:
        if at + 8 > stop:
            raise ValueError("a WebP chunk is cut")
        name = data[at : at + 4]
        (length,) = struct.unpack_from("<I", data, at + 4)
        end = at + 8 + length + length % 2
        if at + 8 + length > stop:
            raise ValueError(f"a WebP chunk is to have {length} bytes, which it has not")
        kind = "" if name in _WEBP_KEPT else _WEBP_KINDS.get(name, "other")
        yield Piece(kind, data[at : min(end, stop)], name)
        at = end
    if stop < len(data):
        yield Piece("trailer", data[stop:])


def _gif(data: bytes) -> Iterator[Piece]:
    if len(data) < 13:
        raise ValueError("a GIF is cut")
    at = 13 + _gif_colours(data[10])
    yield Piece("", data[:at], b"header")
    while at < len(data):
        start, mark = at, data[at]
        if mark == 0x3B:
            yield Piece("", data[at : at + 1], b"end")
            if at + 1 < len(data):
                yield Piece("trailer", data[at + 1 :])
            return
        kind = ""
        if mark == 0x2C and at + 10 <= len(data):
            at += 11 + _gif_colours(data[at + 9])
        elif mark == 0x21 and at + 2 <= len(data):
            kind = _gif_kind(data[at + 1], data[at + 3 : at + 14])
            at += 2
        else:
            raise ValueError(f"a GIF block begins with {mark}")
        while at < len(data) and data[at]:
            at += 1 + data[at]
        at += 1
        yield Piece(kind, data[start:at], b"%02X" % mark)


def _gif_colours(flags: int) -> int:
    """Bytes of a colour table."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _gif_kind(label: int, name: bytes) -> str:
    if label == 0xFE:
        return "comment"
    if label != 0xFF or name in _GIF_LOOPS:
        return ""
    return {b"XMP DataXMP": "XMP", b"ICCRGBG1012": "ICC"}.get(name, "other")

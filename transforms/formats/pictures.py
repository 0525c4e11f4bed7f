"""Names of pictures in shards: by their bytes, and safe wherever they are put."""

import re
import unicodedata
import zlib

# First bytes of the formats that Pillow reads, and the usual extension.
_MAGIC = (
    (re.compile(rb"\xff\xd8\xff"), "jpg"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "png"),
    (re.compile(rb"GIF8[79]a"), "gif"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "webp"),
    (re.compile(rb"....ftypavi[fs]", re.DOTALL), "avif"),
    (re.compile(rb"BM"), "bmp"),
    (re.compile(rb"II\*\0|MM\0\*|II\+\0|MM\0\+"), "tif"),
    (re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"), "jp2"),
    (re.compile(rb"P[14]\s"), "pbm"),
    (re.compile(rb"P[25]\s"), "pgm"),
    (re.compile(rb"P[36]\s"), "ppm"),
)
_UNSAFE = re.compile(r'[\0-\x1f\x7f<>:"\\|?*~.]')
_DEVICES = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)\Z")
_PART_BYTES = 120  # of a name; with suffixes it fits the 255 of the usual file systems


def extension_of(data: bytes) -> str:
    """The extension that a picture's bytes ask for, "jpg" or the like; "bin" for other bytes."""
    return next((extension for magic, extension in _MAGIC if magic.match(data)), "bin")


def safe_name(name: str, extensions: tuple[str, ...]) -> str:
    """A relative path for a record's name, without the extension of a picture, dots or "..".

    Dots are read as the beginning of a field in WebDataset, in folders too by some readers.

    >>> safe_name("/a/../22.0/b.seg.jpg", (".jpg",))
    'a/_/22_0/b_seg'
    """
    for extension in extensions:
        if name.lower().endswith(extension):
            name = name[: -len(extension)]
            break
    parts = [_safe_part(part) for part in name.replace("\\", "/").split("/") if part != ""]
    return "/".join(parts) or "_"


def _safe_part(part: str) -> str:
    text = unicodedata.normalize("NFC", part.encode("utf-8", "replace").decode())
    safe = _UNSAFE.sub("_", text) if text != ".." else "_"
    safe = f"_{safe}" if _DEVICES.match(safe) or safe[0] == "-" else safe
    data = safe.encode()
    if len(data) <= _PART_BYTES:
        return safe
    return f"{data[: _PART_BYTES - 9].decode('utf-8', 'ignore')}-{zlib.crc32(text.encode()):08x}"


class UniqueNames:
    """Makes names differ, also where a file system knows no case: the second `a` becomes `a-2`."""

    def __init__(self) -> None:
        self._next: dict[str, int] = {}

    def unique(self, name: str) -> str:
        """The name, or one that no earlier one has been given."""
        folded = name.casefold()
        if folded not in self._next:
            self._next[folded] = 2
            return name
        while (other := f"{folded}-{self._next[folded]}") in self._next:
            self._next[folded] += 1
        number = self._next[folded]
        self._next[other] = 2
        return f"{name}-{number}"

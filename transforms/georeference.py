"""Where on Earth a picture lies: the tags of a GeoTIFF, taken from one TIFF to another as they are.

They are copied, not understood, so that every coordinate system is kept. OGC 19-008r4, GeoTIFF 1.1,
section 7: three tags tie pixels to coordinates, three describe the coordinate system.
"""

from typing import Any

_DOUBLE, _SHORT, _ASCII = 12, 3, 2
_PIXEL_SCALE, _TIE_POINTS, _TRANSFORMATION = 33550, 33922, 34264
_KEYS, _KEY_NUMBERS, _KEY_TEXTS = 34735, 34736, 34737
_TYPES = {
    _PIXEL_SCALE: _DOUBLE,
    _TIE_POINTS: _DOUBLE,
    _TRANSFORMATION: _DOUBLE,
    _KEYS: _SHORT,
    _KEY_NUMBERS: _DOUBLE,
    _KEY_TEXTS: _ASCII,
}

# Tag, type by TIFF's number, values: numbers, or one text.
GeoTag = tuple[int, int, tuple[float, ...] | str]
Georeference = tuple[GeoTag, ...]


def georeference_of(image: Any) -> Georeference | None:
    """The tags of a picture that Pillow has opened, of its first frame.

    Returns:
        None for what is no TIFF, or has no place. A tag of another type than it must have is none.
    """
    if image.format != "TIFF":
        return None
    tags = image.tag_v2
    found: list[GeoTag] = []
    for tag, kind in _TYPES.items():
        if tag not in tags or tags.tagtype.get(tag) != kind:
            continue
        value = tags[tag]
        values = value if isinstance(value, str | tuple) else (value,)
        if values and isinstance(values, str) == (kind == _ASCII):
            found.append((tag, kind, values))
    tied = any(tag in (_PIXEL_SCALE, _TIE_POINTS, _TRANSFORMATION) for tag, _, _ in found)
    return tuple(found) if tied else None

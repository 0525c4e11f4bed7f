"""Small pictures for the report: images, masks in their colours, overlays, differences."""

import base64
import dataclasses
import io
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageColor

from pipeline.large_thumbnails import small_mask, small_picture
from transforms.decode import MAX_PIXELS, DecodePolicy, decode
from transforms.evaluation.encodings import resize_nearest
from transforms.failures import Failure
from transforms.masks import read_mask
from transforms.tiling.rows import open_streamed

LONGEST_PX = 240
THUMBNAIL_PX = 112
_UNKNOWN_COLOR = "#9a9a9a"  # of ids that are in no legend
_PHOTO_QUALITY = 80
_SHOWN_BYTES = 12  # of a file that is no picture
_SEEN_PIXELS = 25_000_000  # of a picture that failed; larger ones are not looked at
_WRONG, _RIGHT = "#e0503c", "#ffffff"

# The encoded picture, or why there is none.
Found = bytes | Failure
_Pixels = npt.NDArray[np.uint8]


@dataclasses.dataclass(frozen=True)
class Cell:
    """One small picture.

    Attributes:
        kind: "image", "mask", "overlay", "label", "other" (the mask of another run), "difference".
        uri: the picture as a data URI, "" when there is none.
        width, height: in pixels, 0 when there is no picture.
        problem: why there is none.
    """

    kind: str
    uri: str = ""
    width: int = 0
    height: int = 0
    problem: str = ""


def picture_and_mask(
    image: Found,
    mask: Found | None,
    policy: DecodePolicy,
    colors: Mapping[int, str],
    kind: str = "mask",
) -> tuple[Cell, ...]:
    """Small pictures of one record: image, and where there is a mask, mask and overlay."""
    cell, picture = _picture(image, policy)
    if mask is None:
        return (cell,)
    try:
        size_hw = None if picture is None else picture.shape[:2]
        colored = _color(_small_ids(mask, size_hw, policy), size_hw, colors)
    except Failure as failure:
        return (cell, Cell(kind, problem=failure.message))
    cells = [cell, _drawing(kind, colored)]
    if picture is not None:
        cells.append(_photo("overlay", _mixed(picture, colored)))
    return tuple(cells)


def picture_and_two_masks(
    image: Found,
    masks: tuple[Found, Found],
    kinds: tuple[str, str],
    policy: DecodePolicy,
    colors: Mapping[int, str],
    *,
    ignore_id: int | None = None,
) -> tuple[Cell, ...]:
    """Image, two masks side by side, and where they differ; `ignore_id` in the second is none."""
    cell, picture = _picture(image, policy)
    return (cell, *two_masks(masks, kinds, colors, picture, ignore_id=ignore_id))


def two_masks(
    masks: tuple[Found, Found],
    kinds: tuple[str, str],
    colors: Mapping[int, str],
    picture: _Pixels | None = None,
    *,
    ignore_id: int | None = None,
) -> tuple[Cell, ...]:
    """The same without the image, whose small form, if given, lies under the difference."""
    cells, ids = list[Cell](), []
    size_hw = None if picture is None else picture.shape[:2]
    for kind, mask in zip(kinds, masks, strict=True):
        try:
            ids.append(_ids(mask))
            cells.append(_drawing(kind, _color(ids[-1], size_hw, colors)))
        except Failure as failure:
            cells.append(Cell(kind, problem=failure.message))
    if len(ids) == 2 and ids[0].shape == ids[1].shape:
        wrong = ids[0] != ids[1]
        if ignore_id is not None:
            wrong &= ids[1] != ignore_id
        marks = _color(wrong.astype(np.uint8), size_hw, {0: _RIGHT, 1: _WRONG})
        if picture is not None:
            marked = (marks != 255).any(axis=-1, keepdims=True)
            pale = (picture.mean(axis=-1, keepdims=True) * 0.45 + 130).astype(np.uint8)
            marks = np.where(marked, marks, np.broadcast_to(pale, marks.shape))
        cells.append(_photo("difference", marks))
    return tuple(cells)


def within_budget(
    found: Mapping[tuple[str, int], tuple[Cell, ...]], size_bytes: int
) -> dict[tuple[str, int], tuple[Cell, ...]]:
    """The same, but pictures beyond so many bytes of the page are left out, and say so."""
    kept: dict[tuple[str, int], tuple[Cell, ...]] = {}
    for place, cells in found.items():
        size_bytes -= sum(len(cell.uri) for cell in cells)
        left_out = "left out, for the page would be too large"
        kept[place] = (
            cells
            if size_bytes >= 0
            else tuple(Cell(cell.kind, problem=cell.problem or left_out) for cell in cells)
        )
    return kept


def thumbnail(image: Found) -> Cell:
    """A picture of at most THUMBNAIL_PX; small ones keep every pixel."""
    try:
        if isinstance(image, Failure):
            raise image
        pixels = decode(image, DecodePolicy(draft_px=2 * THUMBNAIL_PX)).pixels
    except Failure as failure:
        return Cell("image", problem=failure.message)
    return _thumbnail_of(pixels)


def failed_thumbnail(image: Found) -> Cell:
    """What can be seen of a picture that failed: all, its undamaged part, or its first bytes."""
    if isinstance(image, Failure):
        return Cell("image", problem=image.message)
    try:
        return _thumbnail_of(
            decode(image, DecodePolicy(_SEEN_PIXELS, draft_px=2 * THUMBNAIL_PX)).pixels
        )
    except Failure:
        part = _undamaged_part(image)
        if part is not None:
            return _thumbnail_of(part)
    start = image[:_SHOWN_BYTES].hex(" ")
    more = " …" if len(image) > _SHOWN_BYTES else ""
    told = f", the first are {start}{more}" if image else ""
    return Cell("image", problem=f"no picture: {len(image):,} bytes{told}")


def _undamaged_part(data: bytes) -> _Pixels | None:
    """The rows of a damaged picture that came before the damage; None when there are none."""
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data)) as opened:
            warnings.simplefilter("ignore")
            if opened.width * opened.height > _SEEN_PIXELS or opened.format == "EPS":
                return None
            try:
                opened.load()
            except Exception:  # whatever the plugin raises at the damage: the rows before it stay
                opened.tile = []  # or convert() would decode, and fail, once more
            part = np.asarray(opened.convert("RGB"))
            return part if part.any() else None
    except Exception:  # whatever Pillow's plugins raise for a header: nothing is to be seen then
        return None


def _thumbnail_of(pixels: _Pixels) -> Cell:
    longest = max(pixels.shape[:2])
    if longest <= THUMBNAIL_PX:
        return _drawing("image", pixels)
    height, width = (max(1, side * THUMBNAIL_PX // longest) for side in pixels.shape[:2])
    small = Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)
    return _photo("image", np.asarray(small))


def _picture(image: Found, policy: DecodePolicy) -> tuple[Cell, _Pixels | None]:
    try:
        if isinstance(image, Failure):
            raise image
        rows = open_streamed(image, dataclasses.replace(policy, ids=False))
        if rows is not None:
            picture = small_picture(rows, _small(*rows.facts.size_hw))
        else:
            _check_shown(image, policy)
            how = dataclasses.replace(policy, draft_px=2 * LONGEST_PX, ids=False)
            picture = _shrink(decode(image, how).pixels)
    except Failure as failure:
        return Cell("image", problem=failure.message), None
    return _photo("image", picture), picture


def _check_shown(data: bytes, policy: DecodePolicy) -> None:
    """Raises a Failure for a picture that would have to be held whole, and is of gigapixels."""
    if policy.max_pixels <= MAX_PIXELS:
        return
    Image.MAX_IMAGE_PIXELS = policy.max_pixels
    try:
        with Image.open(io.BytesIO(data)) as opened:
            width, height = opened.size
    except Exception:  # whatever Pillow's plugins raise for a header: decode() names the failure
        return
    if width * height > MAX_PIXELS:
        raise Failure("decode", "too_large", f"{width}x{height} pixels are not shown in reports")


def _small_ids(
    mask: Found, size_hw: tuple[int, ...] | None, policy: DecodePolicy
) -> npt.NDArray[Any]:
    """The same as `_ids`, of a large mask at (height, width) or its own small size."""
    if not isinstance(mask, Failure):
        rows = open_streamed(mask, DecodePolicy(policy.max_pixels))
        if rows is not None and rows.facts.mode == "L":
            height, width = size_hw or _small(*rows.facts.size_hw)
            return small_mask(rows, (min(height, rows.facts.size_hw[0]), width))
    return _ids(mask)


def _ids(mask: Found) -> npt.NDArray[Any]:
    """Class ids of a grey PNG, [H, W]. Raises a Failure when it is none."""
    if isinstance(mask, Failure):
        raise mask

    def check(size: tuple[int, int]) -> None:
        if size[0] * size[1] > MAX_PIXELS:
            raise Failure("decode", "too_large", "masks of gigapixels are not shown in reports")

    _, ids = read_mask(mask, "of this record", check)
    if ids.ndim != 2:
        raise Failure("read", "mask_format", f"the mask has the shape {ids.shape}, not [H, W]")
    return ids


def _color(
    ids: npt.NDArray[Any], size_hw: tuple[int, ...] | None, colors: Mapping[int, str]
) -> _Pixels:
    """A mask in the colours of its classes, uint8 [h, w, 3], at a size or its own small one."""
    height, width = size_hw or _small(ids.shape[0], ids.shape[1])
    values, inverse = np.unique(resize_nearest(ids, (height, width)), return_inverse=True)
    palette = [ImageColor.getrgb(colors.get(int(value), _UNKNOWN_COLOR)) for value in values]
    return np.asarray(palette, np.uint8)[inverse.reshape(height, width)]


def _mixed(picture: _Pixels, colored: _Pixels) -> _Pixels:
    return ((picture.astype(np.uint16) + colored) // 2).astype(np.uint8)


def _small(height: int, width: int) -> tuple[int, int]:
    """The size of the small picture: scaled down, or up by a whole factor."""
    longest = max(height, width)
    if longest <= LONGEST_PX:
        factor = LONGEST_PX // longest
        return height * factor, width * factor
    return max(1, height * LONGEST_PX // longest), max(1, width * LONGEST_PX // longest)


def _shrink(pixels: _Pixels) -> _Pixels:
    """A picture, uint8 [H, W, 3], at its small size; enlarged ones keep their square pixels."""
    height, width = _small(*pixels.shape[:2])
    larger = height > pixels.shape[0]
    method = Image.Resampling.NEAREST if larger else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(pixels).resize((width, height), method))


def _photo(kind: str, pixels: _Pixels) -> Cell:
    return _cell(kind, pixels, "jpeg", quality=_PHOTO_QUALITY, optimize=True)


def _drawing(kind: str, pixels: _Pixels) -> Cell:
    return _cell(kind, pixels, "png", optimize=True)


def _cell(kind: str, pixels: _Pixels, fmt: str, **options: int) -> Cell:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, fmt, **options)
    data = base64.b64encode(buffer.getvalue()).decode()
    height, width = pixels.shape[:2]
    return Cell(kind, f"data:image/{fmt};base64,{data}", width, height)

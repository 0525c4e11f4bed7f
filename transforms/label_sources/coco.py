"""COCO's annotations: masks of category ids from polygons and RLE.

The JSON is read once, in the launcher, and streamed, for it may be larger than memory; what belongs
to a shard's pictures is put aside as one file for the shard, so that a worker reads that alone.

Where objects overlap, the smaller one is seen, as it lies on or in the larger one more often than
the other way round; crowds (iscrowd), which are drawn roughly, lie under all. Equal areas go by
annotation id, the higher one is seen. Category ids stay as they are (1 to 90 in COCO), 0 is what
nobody has annotated. Masks of instances hold category * 256 + number: objects of a category are
numbered from 1 by annotation id, crowds have the number 0.
"""

import dataclasses
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import ijson
import numpy as np

from transforms import storage
from transforms.failures import Failure
from transforms.inputs import Shard
from transforms.label_sources.runs import Runs, area, polygon_runs, rle_runs, union
from transforms.listing import InputError
from transforms.masks import Ids
from transforms.spill import Spill

FOLDER = "labels"  # below OUT
DIVISOR = 256  # of masks of instances
_LARGEST_ID = 65535
_SPILL_BYTES = 64 << 20
_MOST_SEGMENT_BYTES = 64 << 20  # of one annotation


class Annotated(NamedTuple):
    """What COCO says of a picture: its size, and (category, is a crowd, id, segmentation)."""

    size_hw: tuple[int, int]
    objects: list[tuple[int, bool, int, Any]]


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a file of annotations holds of a list of pictures.

    Attributes:
        paths: of the pictures that it knows.
        missing: how many pictures it knows that there are no files of.
        categories: name by id.
    """

    paths: frozenset[str]
    missing: int
    categories: Mapping[int, str]


def coco_mask(
    annotated: Annotated, size_hw: tuple[int, int], name: str, instances: bool = False
) -> Ids:
    """The mask of a picture, uint8 [H, W], or uint16 where its values need it.

    Args:
        size_hw: of the picture.
        name: for messages.
        instances: tell objects of a category apart.

    Raises:
        Failure: a segmentation is damaged, or of a picture of another size; or there are more
            instances or categories than the mask can tell apart.
    """
    if annotated.size_hw != size_hw:
        (height, width), (found_h, found_w) = annotated.size_hw, size_hw
        raise Failure(
            "decode",
            "mask_size",
            f"annotations of {name} are of {width}x{height}, the picture is {found_w}x{found_h}",
        )
    regions = []
    values = _values(annotated, name) if instances else {}
    for category, crowd, number, segmentation in annotated.objects:
        try:
            runs = _runs(segmentation, size_hw)
        except Failure as failure:
            told = f"annotation {number} of {name}: {failure.message}"
            raise Failure(failure.stage, failure.reason, told) from failure
        regions.append((not crowd, -area(runs), number, values.get(number, category), runs))
    is_large = instances or any(region[3] > 255 for region in regions)
    flat = np.zeros(size_hw[0] * size_hw[1], np.uint16 if is_large else np.uint8)
    for *_, value, runs in sorted(regions, key=lambda region: region[:3]):
        for start, stop in runs.tolist():
            flat[start:stop] = value
    return np.ascontiguousarray(flat.reshape(size_hw, order="F"))


def _values(annotated: Annotated, name: str) -> dict[int, int]:
    """Value of each object in a mask of instances, by annotation id."""
    counts: dict[int, int] = {}
    values: dict[int, int] = {}
    for category, crowd, number, _ in sorted(annotated.objects, key=lambda one: one[2]):
        counts[category] = counts.get(category, 0) + (not crowd)
        values[number] = category * DIVISOR + (0 if crowd else counts[category])
        if category >= DIVISOR or counts[category] >= DIVISOR:
            raise Failure(
                "decode",
                "annotation",
                f"{name} has {counts[category]} objects of category {category}; masks of instances "
                f"hold {DIVISOR - 1} of each, and categories to {DIVISOR - 1}",
            )
    return values


def _runs(segmentation: Any, size_hw: tuple[int, int]) -> Runs:
    if isinstance(segmentation, Mapping):
        size = segmentation.get("size")
        if size != list(size_hw):
            raise Failure("decode", "mask_size", f"an RLE's size is {size}, not {list(size_hw)}")
        return rle_runs(segmentation.get("counts"), size_hw)
    if not isinstance(segmentation, list):
        raise Failure("decode", "mask_format", "it has neither polygons nor an RLE")
    return union([polygon_runs(polygon, size_hw) for polygon in segmentation])


def read_summary(path: str, files: Sequence[str]) -> Summary:
    """Which pictures and categories a file of annotations knows. Streamed; raises InputError.

    Args:
        path: of COCO's JSON.
        files: relative paths of pictures. One belongs to a file_name that is its path's end.
    """
    found: set[str] = set()
    missing = 0
    by_name = _by_name(files)
    for item in _items(path, "images"):
        match = _match(by_name, item, path)
        missing += match is None
        if match is not None:
            found.add(match)
    if not found:
        raise InputError(
            f"none of the file names in {path} is among the {len(files):,} pictures of the input"
        )
    categories = {
        _integer(item, "id", path): str(item.get("name", "")) for item in _items(path, "categories")
    }
    wrong = [number for number in categories if not 0 < number <= _LARGEST_ID]
    if wrong:
        raise InputError(f"{path} has the category id {wrong[0]}, expected 1 to {_LARGEST_ID}")
    return Summary(frozenset(found), missing, categories)


def stage(path: str, out: str, shards: Sequence[Shard], categories: Iterable[int]) -> None:
    """Writes OUT/labels/<shard>.jsonl: a line for each picture and each object of a shard.

    Raises:
        InputError: the file is damaged.
        OSError: the storage failed.
    """
    by_name = _by_name([file.path for shard in shards for file in shard.files])
    home = {file.path: n for n, shard in enumerate(shards) for file in shard.files}
    known = frozenset(categories)
    owner: dict[int, tuple[int, str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        spill = Spill(folder, _SPILL_BYTES)
        for item in _items(path, "images"):
            if (match := _match(by_name, item, path)) is not None:
                size_hw = (_integer(item, "height", path), _integer(item, "width", path))
                owner[_integer(item, "id", path)] = (home[match], match)
                spill.add(home[match], _line([match, *size_hw]))
        for item in _items(path, "annotations"):
            if (place := owner.get(_integer(item, "image_id", path))) is None:
                continue
            number, category = (_integer(item, name, path) for name in ("id", "category_id"))
            if category not in known:
                raise InputError(
                    f"{path}: annotation {number} is of the category {category}, which is none"
                )
            crowd = bool(item.get("iscrowd"))
            found = [place[1], category, crowd, number, item.get("segmentation")]
            spill.add(place[0], _line(found))
        for number, shard in enumerate(shards):
            storage.write(out, index_path(shard.name), spill.read(number))


def index_path(shard_name: str) -> str:
    """Where what is annotated of a shard's pictures is, relative to OUT."""
    return f"{FOLDER}/{shard_name}.jsonl"


def read_index(out: str, shard: Shard) -> dict[str, Annotated]:
    """What is annotated of a shard's pictures, by path. Raises OSError."""
    found: dict[str, Annotated] = {}
    for line in storage.read_bytes(os.path.join(out, index_path(shard.name))).splitlines():
        path, *rest = json.loads(line)
        if len(rest) == 2:
            found[path] = Annotated((rest[0], rest[1]), [])
        else:
            found[path].objects.append((rest[0], rest[1], rest[2], rest[3]))
    return found


def _line(fields: list[Any]) -> bytes:
    try:
        line = json.dumps(fields, separators=(",", ":")).encode()
    except RecursionError:
        line = b""
    if not 0 < len(line) <= _MOST_SEGMENT_BYTES:  # the worker finds none: it costs its picture
        return json.dumps([*fields[:-1], None]).encode()
    return line


def _items(path: str, name: str) -> Iterator[dict[str, Any]]:
    """Members of a list at the top of a JSON file. Raises InputError."""
    try:
        with storage.open_read(path) as stream:
            for item in ijson.items(stream, f"{name}.item", use_float=True):
                if not isinstance(item, dict):
                    raise InputError(f"{path}: in {name!r} there is {item!r:.50}, expected objects")
                yield item
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (ijson.JSONError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no JSON of COCO: {error}") from error


def _integer(item: Mapping[str, Any], name: str, path: str) -> int:
    value = item.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"{path}: {name!r} is {value!r:.50} in {item!r:.100}, expected an integer")
    return value


def _by_name(files: Iterable[str]) -> dict[str, list[str]]:
    by_name: dict[str, list[str]] = {}
    for path in files:
        by_name.setdefault(path.rpartition("/")[2], []).append(path)
    return by_name


def _match(by_name: Mapping[str, list[str]], item: Mapping[str, Any], path: str) -> str | None:
    """The picture that an entry of "images" means; None when it is not there."""
    name = item.get("file_name")
    if not isinstance(name, str):
        raise InputError(f"{path}: an image has the file_name {name!r:.50}, expected a text")
    candidates = by_name.get(name.rpartition("/")[2], ())
    found = [one for one in candidates if one == name or one.endswith(f"/{name}")]
    if len(found) > 1:
        raise InputError(
            f"{path}: {name} may be {found[0]} or {found[1]}; name the folder of its pictures alone"
        )
    return found[0] if found else None

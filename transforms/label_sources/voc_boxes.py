"""Boxes of Pascal VOC's XML, as the features that TF Object Detection gives them.

    image/object/bbox/xmin, ymin, xmax, ymax    parts of width and height, 0 to 1
    image/object/class/text, label              name and id; ids begin with 1, as in VOC's masks
    image/object/difficult, truncated           0 or 1
    image/object/view                           such as Frontal

(research/object_detection/dataset_tools/create_pascal_tf_record.py)
"""

import math
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence

from transforms.failures import Failure
from transforms.label_sources.layouts import VOC_IMAGES, voc_base

Values = Mapping[str, list[float] | list[int] | list[bytes]]

# By the ids that they have in VOC's masks.
VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
_FOLDER = "Annotations"
_MOST_BYTES = 16 << 20
_SIDES = ("xmin", "ymin", "xmax", "ymax")


def annotation_path(image: str) -> str:
    """Where the boxes of JPEGImages/a.jpg are: Annotations/a.xml. Raises a Failure."""
    base = voc_base(image)
    if base is None:
        raise Failure("read", "label_missing", f"{image} is not below {VOC_IMAGES}/")
    name = image[len(base) + len(VOC_IMAGES) + 1 :].rpartition(".")[0]
    return f"{base}{_FOLDER}/{name}.xml"


def read_boxes(data: bytes, size_hw: tuple[int, int], classes: Sequence[str], path: str) -> Values:
    """The features of a picture's boxes, by name; lists of equal length.

    Args:
        data: the XML.
        size_hw: height and width of the picture.
        classes: names by id, from 1.
        path: for messages.

    Raises:
        Failure: it is damaged, of another size, or has a class that is none of these.
    """
    root = _parsed(data, path)
    height, width = size_hw
    size = root.find("size")
    if size is not None:
        told = (_number(size, "height", path), _number(size, "width", path))
        if told != size_hw:
            raise _bad(f"{path} is of {told[1]:g}x{told[0]:g}, its image is {width}x{height}")
    ids = {name: number for number, name in enumerate(classes, 1)}
    found: dict[str, list[float]] = {side: [] for side in _SIDES}
    texts: list[bytes] = []
    labels: list[int] = []
    views: list[bytes] = []
    marks: dict[str, list[int]] = {"difficult": [], "truncated": []}
    for one in root.iter("object"):
        name = (one.findtext("name") or "").strip()
        if name not in ids:
            raise _bad(f"{path} has the class {name!r}, which is none of {', '.join(classes)}")
        box = one.find("bndbox")
        if box is None:
            raise _bad(f"{path}: the {name} has no bndbox")
        corners = [_number(box, side, path) for side in _SIDES]
        if not (0 <= corners[0] <= corners[2] <= width and 0 <= corners[1] <= corners[3] <= height):
            raise _bad(f"{path}: the box {corners} of the {name} is not within {width}x{height}")
        for side, value in zip(_SIDES, corners, strict=True):
            found[side].append(value / (width if side[0] == "x" else height))
        texts.append(name.encode())
        labels.append(ids[name])
        views.append((one.findtext("pose") or "").strip().encode())
        for mark, values in marks.items():
            values.append(int((one.findtext(mark) or "0").strip() == "1"))
    return {
        **{f"image/object/bbox/{side}": values for side, values in found.items()},
        "image/object/class/text": texts,
        "image/object/class/label": labels,
        "image/object/view": views,
        **{f"image/object/{mark}": values for mark, values in marks.items()},
    }


def _parsed(data: bytes, path: str) -> ET.Element:
    if len(data) > _MOST_BYTES or b"<!" in data.replace(b"<!--", b""):  # entities grow
        raise _bad(f"{path} is too large, or declares types or entities, which no VOC file does")
    try:
        return ET.fromstring(data)
    except (ET.ParseError, ValueError, LookupError, RecursionError) as error:
        raise _bad(f"{path} is no XML: {error}") from error


def _number(element: ET.Element, name: str, path: str) -> float:
    text = element.findtext(name)
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _bad(f"{path}: {name} is {text!r:.50}, expected a number")
    return value


def _bad(message: str) -> Failure:
    return Failure("read", "annotation", message)

"""The model card: what a SavedModel's signature cannot say, in a few lines of YAML.

    signature: serving_default
    input: {name: image, range: "0,1", size: [512, 512]}
    output: {name: logits, kind: logits, layout: NHWC}
    classes: [background, person]

    input: {name: image_bytes, role: bytes, max_side: 1024}           # PNGs of any size
    input: {name: examples, role: example, feature: image/encoded}    # tf.Examples of them
    input: {range: "-1,1", multiple_of: 32}                           # sides 32, 64, 96, ...

Every field is optional. Flags override single fields.
"""

import math
from typing import Annotated, Any, Literal

import pydantic
import yaml

from models.errors import ModelError

Channels = Literal["RGB", "BGR", "L"]
Layout = Literal["NHWC", "NCHW"]
Kind = Literal["logits", "softmax", "sigmoid", "class_ids"]
Role = Literal["image", "bytes", "example"]
Positive = Annotated[int, pydantic.Field(gt=0)]
# Classes are counted in arrays of this many cells per image; ids beyond 65535 fit no PNG.
MAX_CLASSES = 65536


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class InputCard(_Strict):
    """How pixels go in.

    Attributes:
        name: the input that takes the image.
        role: what it takes. image: pixels; bytes: an encoded image; example: a serialized
            tf.Example that holds one. Told from its dtype and name when they are plain.
        feature: of the tf.Example, the one that holds the encoded image; "/format" is put beside.
        range: "low,high": what 0 and 255 become, e.g. "0,1", "-1,1" or "0,255".
        mean, std: after that, (x - mean) / std by channel, in the order of `channels`.
        channels: order of the channels; "L" is grey, one channel.
        layout: NHWC or NCHW; read off the shape when it can be.
        size: [height, width] that pictures are stretched to; read off the shape when it is fixed.
        max_side: for a model of free size, the longest side that it bears, in pixels. Larger
            pictures are scaled down, keeping their aspect.
        multiple_of: for a model of free size whose sides must be multiples of a number. Pictures
            are continued by their mirror image at the bottom and the right, and masks are cut.
    """

    name: str | None = None
    role: Role | None = None
    feature: Annotated[str, pydantic.Field(min_length=1)] = "image/encoded"
    range: str | None = None
    mean: list[pydantic.FiniteFloat] | None = None
    std: list[pydantic.FiniteFloat] | None = None
    channels: Channels = "RGB"
    layout: Layout | None = None
    size: tuple[Positive, Positive] | None = None
    max_side: Positive | None = None
    multiple_of: Annotated[int, pydantic.Field(gt=0, le=4096)] | None = None

    @pydantic.field_validator("range")
    @classmethod
    def _two_numbers(cls, value: str | None) -> str | None:
        if value is not None:
            parse_range(value)
        return value

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> "InputCard":
        wanted = 1 if self.channels == "L" else 3
        for name in ("mean", "std"):
            given = getattr(self, name)
            if given is not None and len(given) not in (1, wanted):
                raise ValueError(f"{name} has {len(given)} numbers, expected 1 or {wanted}")
        if self.std is not None and min(map(abs, self.std)) == 0:
            raise ValueError("std must not contain 0")
        if self.size is not None and self.max_side is not None:
            raise ValueError("size and max_side exclude each other: give one")
        if self.size is not None and self.multiple_of is not None:
            raise ValueError("size and multiple_of exclude each other: give one")
        return self


class OutputCard(_Strict):
    """What comes out.

    Attributes:
        name: the output that holds the scores or the class ids.
        kind: logits, softmax (probabilities that sum to 1), sigmoid (one probability a pixel) or
            class_ids. Found by running the model once when it is not given.
        layout: NHWC or NCHW; found likewise.
        threshold: for a single probability a pixel, above which the pixel is class 1.
    """

    name: str | None = None
    kind: Kind | None = None
    layout: Layout | None = None
    threshold: Annotated[float, pydantic.Field(ge=0, le=1)] = 0.5


class ModelCard(_Strict):
    """All that is said about one model.

    Attributes:
        signature: its name; "serving_default" when there are several.
        tags: of the graph to load.
        classes: names by class id.
        colors: "#rrggbb" by class id, for legends and pictures.
    """

    signature: str | None = None
    tags: list[str] | None = None
    input: InputCard = InputCard()
    output: OutputCard = OutputCard()
    classes: list[str] | None = None
    colors: list[Annotated[str, pydantic.Field(pattern="^#[0-9a-fA-F]{6}$")]] | None = None

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> "ModelCard":
        if self.classes is not None and not 1 < len(self.classes) <= MAX_CLASSES:
            raise ValueError(f"classes has {len(self.classes)} names, expected 2 to {MAX_CLASSES}")
        if self.colors is not None and len(self.colors) != len(self.classes or self.colors):
            raise ValueError(f"{len(self.colors)} colors for {len(self.classes or [])} classes")
        return self


def parse_range(text: str) -> tuple[float, float]:
    """Parses "low,high". Raises ValueError unless it is two different finite numbers."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = 0.0
    if low == high or not math.isfinite(high - low):
        raise ValueError(f"range is {text!r}, expected low,high such as 0,1 or -1,1 or 0,255")
    return low, high


def load_card(path: str | None, overrides: dict[str, Any]) -> ModelCard:
    """Reads a card from a YAML file and lets flags override single fields.

    Args:
        path: the file, or None for an empty card.
        overrides: values by dotted field name, {"input.range": "0,1"}; None values are left out.

    Raises:
        ModelError: the file cannot be read, is no YAML mapping, or a field is wrong.
    """
    fields = _read_yaml(path) if path else {}
    for name, value in overrides.items():
        if value is None:
            continue
        *groups, leaf = name.split(".")
        target = fields
        for group in groups:
            target = target.setdefault(group, {})
            if not isinstance(target, dict):
                raise ModelError(f"{path}: {group} must be a mapping")
        target[leaf] = value
    try:
        return ModelCard.model_validate(fields)
    except pydantic.ValidationError as error:
        where = f"model card {path}" if path else "model flags"
        lines = [f"  {'.'.join(map(str, e['loc'])) or 'card'}: {e['msg']}" for e in error.errors()]
        known = "fields: signature, tags, input, output, classes, colors; see models/card.py"
        raise ModelError("\n".join([f"{where}:", *lines, known])) from error


def _read_yaml(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            fields = yaml.safe_load(file)
    except OSError as error:
        raise ModelError(f"cannot read model card {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date 2024-13-45; [[[[...
        raise ModelError(f"model card {path} is not YAML: {error}") from error
    if not isinstance(fields, dict):
        raise ModelError(f"model card {path}: expected a mapping, got {type(fields).__name__}")
    return fields

"""The model card: what a SavedModel's signature cannot say, in a few lines of YAML.

    signature: serving_default
    input: {name: image, range: "0,1", size: [512, 512]}
    output: {name: logits, kind: logits, layout: NHWC}
    classes: [background, person]

    input: {name: image_bytes, role: bytes, max_side: 1024}           # PNGs of any size
    input: {name: examples, role: example, feature: image/encoded}    # tf.Examples of them
    input: {range: "-1,1", multiple_of: 32}                           # sides 32, 64, 96, ...

A model that makes pictures, from noise and a label, or from a picture:

    inputs:
      z: {role: latent, distribution: truncated_normal}
      y: {role: label}
      truncation: {role: constant, value: 0.5}
    output: {kind: image, range: "-1,1"}

    input: {channels: Y, range: "0,1"}                                # brightness only
    output: {kind: image, range: "0,1"}

Every field is optional. Flags override single fields; --set any of them. A SavedModel may bring
its own card, in assets.extra/pixelmill.card.yaml; `pixelmill train` writes one there.
"""

import math
import os
from typing import Annotated, Any, Literal

import pydantic
import yaml

from models.errors import ModelError
from models.signatures import newest_version

Channels = Literal["RGB", "BGR", "L", "Y"]
Layout = Literal["NHWC", "NCHW"]
Kind = Literal["logits", "softmax", "sigmoid", "class_ids", "image"]
Role = Literal["image", "bytes", "example"]
Fit = Literal["stretch", "letterbox", "pad", "crop"]
OtherRole = Literal["latent", "label", "constant"]
Distribution = Literal["normal", "truncated_normal", "uniform", "sphere"]
Encoding = Literal["id", "one_hot"]
Positive = Annotated[int, pydantic.Field(gt=0)]
_SHIPPED = os.path.join(os.path.dirname(__file__), "cards")
# Where a SavedModel may hold its own card: assets.extra is for what TensorFlow does not read.
CARD_FILE = "assets.extra/pixelmill.card.yaml"
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
        channels: order of the channels; "L" is grey, one channel. "Y" is the brightness of YCbCr
            (JPEG's, full range): a picture that the model makes gets the colours of the one that
            it was made from.
        layout: NHWC or NCHW; read off the shape when it can be.
        size: [height, width] of the input; read off the shape when it is fixed.
        fit: how a picture gets to a fixed size. stretch: both sides to the size; letterbox: scaled
            to fit inside, keeping its aspect, bars on both sides; pad: scaled down only if it is
            larger, put at the top left. Masks are of the picture, not of the bars. crop: the
            largest part in the middle that has the size's aspect, scaled to it; in masks all
            around it is the ignore id, and of a picture that is made only this part comes out.
        fill: brightness of the bars, 0 to 255.
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
    fit: Fit = "stretch"
    fill: Annotated[float, pydantic.Field(ge=0, le=255)] = 0.0
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
        wanted = 1 if self.channels in ("L", "Y") else 3
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


class OtherInputCard(_Strict):
    """An input that takes no picture.

    Attributes:
        role: latent (random numbers), label (of the class that is wanted) or constant. Told from
            name, dtype and shape when they are plain.
        distribution: of a latent: normal; truncated_normal, cut at 2; uniform, from -1 to 1;
            sphere, normal numbers scaled to length 1.
        size: of a latent without the batch, [128], where the signature leaves it open.
        encoding: of a label: its id, or one_hot; told from dtype and shape.
        classes: how many labels there are; told by a one-hot shape, or by the names of classes.
        value: of a constant: a number or a text, or a list of them in the input's shape without
            the batch.
    """

    role: OtherRole | None = None
    distribution: Distribution = "normal"
    size: list[Positive] | None = None
    encoding: Encoding | None = None
    classes: Positive | None = None
    value: bool | int | pydantic.FiniteFloat | str | list[Any] | None = None


class OutputCard(_Strict):
    """What comes out.

    Attributes:
        name: the output that holds the scores, the class ids or the picture.
        kind: logits, softmax (probabilities that sum to 1), sigmoid (one probability a pixel) or
            class_ids. Found by running the model once when it is not given. image: the model makes
            pictures; always so for `pixelmill generate`.
        layout: NHWC or NCHW; found likewise.
        range: "low,high": the values of a picture that mean black and white, e.g. "-1,1".
        channels: of a picture: RGB, BGR or L; those of the input, or RGB. L for an input of Y
            leaves the picture grey.
        threshold: for a single probability a pixel, above which the pixel is class 1.
        id_offset: added to the model's class ids. What becomes negative is void: -1 for a model
            that has a background before the first class.
        void_id: the class id of the model that means "unlabelled"; in masks it becomes 255, or
            65535 in masks of 16 bit.
    """

    name: str | None = None
    kind: Kind | None = None
    layout: Layout | None = None
    range: str | None = None
    channels: Literal["RGB", "BGR", "L"] | None = None
    threshold: Annotated[float, pydantic.Field(ge=0, le=1)] = 0.5
    id_offset: Annotated[int, pydantic.Field(ge=-65535, le=65535)] = 0
    void_id: Annotated[int, pydantic.Field(ge=0)] | None = None

    @pydantic.field_validator("range")
    @classmethod
    def _two_numbers(cls, value: str | None) -> str | None:
        if value is not None:
            parse_range(value)
        return value


class ModelCard(_Strict):
    """All that is said about one model.

    Attributes:
        signature: its name; "serving_default" when there are several.
        tags: of the graph to load.
        input: of the picture.
        inputs: all others, by name.
        classes: names by class id, after id_offset; of a generator, names of its labels.
        colors: "#rrggbb" by class id, for legends and pictures.
        receptive_field: [height, width] in pixels of the part of a picture that decides one pixel
            of the output; for information, and for cutting pictures into tiles.
    """

    signature: str | None = None
    tags: list[str] | None = None
    input: InputCard = InputCard()
    inputs: dict[str, OtherInputCard] = pydantic.Field(default_factory=dict)
    output: OutputCard = OutputCard()
    classes: list[str] | None = None
    colors: list[Annotated[str, pydantic.Field(pattern="^#[0-9a-fA-F]{6}$")]] | None = None
    receptive_field: tuple[Positive, Positive] | None = None

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
        path: the file, the name of a card that comes along (see shipped_cards), or None for an
            empty card.
        overrides: values by dotted field name, {"input.range": "0,1"}; None values are left out.

    Raises:
        ModelError: the file cannot be read, is no YAML mapping, or a field is wrong.
    """
    if path in shipped_cards():
        path = os.path.join(_SHIPPED, f"{path}.yaml")
    fields = _read_yaml(path) if path else {}
    for name, value in overrides.items():
        if value is None:
            continue
        *groups, leaf = _field_names(name)
        target = fields
        for group in groups:
            if target.get(group) is None:  # in a card of which all lines are open, too
                target[group] = {}
            target = target[group]
            if not isinstance(target, dict):
                raise ModelError(f"{path}: {group} must be a mapping")
        target[leaf] = value
    try:
        return ModelCard.model_validate(fields)
    except pydantic.ValidationError as error:
        where = f"model card {path}" if path else "model flags"
        lines = [f"  {'.'.join(map(str, e['loc'])) or 'card'}: {e['msg']}" for e in error.errors()]
        known = f"fields: {', '.join(ModelCard.model_fields)}; see models/card.py"
        raise ModelError("\n".join([f"{where}:", *lines, known])) from error


def own_card(model: str) -> str | None:
    """The card that lies in a SavedModel, or in the newest version of it; None if there is none."""
    path = os.path.join(newest_version(model), CARD_FILE)
    return path if os.path.isfile(path) else None


def shipped_cards() -> dict[str, str]:
    """Names of the cards of well-known families, each with the first line of its file."""
    found = {}
    for file in sorted(os.listdir(_SHIPPED)):
        name, extension = os.path.splitext(file)
        if extension == ".yaml":
            with open(os.path.join(_SHIPPED, file), encoding="utf-8") as stream:
                found[name] = stream.readline().lstrip("# ").rstrip()
    return found


def _field_names(dotted: str) -> list[str]:
    """["inputs", "a.b", "value"] of "inputs.a.b.value": names of inputs may hold dots."""
    parts = dotted.split(".")
    if parts[0] == "inputs" and len(parts) > 3:
        return ["inputs", ".".join(parts[1:-1]), parts[-1]]
    return parts


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
    return {name: value for name, value in fields.items() if value is not None}

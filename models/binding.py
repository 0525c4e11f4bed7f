"""How to call a model: plain data that is pickled to workers and stored in run.json.

Made from signature and card by models/rules.py, completed by one test run in models/probe.py.
"""

import dataclasses
from typing import Any, Literal

import numpy.typing as npt

from models.callables import Call
from models.card import MASKS, Channels, Distribution, Encoding, Fit, Kind, Layout, OtherRole, Role

Size = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class OtherInput:
    """An input that takes no picture.

    Attributes:
        name, dtype: in the SavedModel.
        shape: of one item, without the batch.
        batched: it has a batch as its first axis; false for a number that all items share.
        role: latent, label or constant.
        distribution: of a latent.
        encoding: of a label.
        labels: how many labels there are.
        value: of a constant: a number, or numbers in nested tuples of `shape`.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    batched: bool
    role: OtherRole
    distribution: Distribution = "normal"
    encoding: Encoding = "id"
    labels: int = 0
    value: object = None


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where a picture lies in what the model sees.

    Attributes:
        canvas_hw: (height, width) of the model's input.
        offset_yx: of the picture's top left corner in it.
        size_hw: (height, width) to which the picture is resized.
    """

    canvas_hw: Size
    offset_yx: Size
    size_hw: Size

    @property
    def fills(self) -> bool:
        return self.canvas_hw == self.size_hw


@dataclasses.dataclass(frozen=True)
class Part:
    """A rectangle of a picture, in its own pixels.

    Attributes:
        offset_yx: of its top left corner.
        size_hw: its (height, width).
    """

    offset_yx: Size
    size_hw: Size

    def of(self, image: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A view of [H, W, ...]."""
        (top, left), (height, width) = self.offset_yx, self.size_hw
        return image[top : top + height, left : left + width]


@dataclasses.dataclass(frozen=True)
class Binding:
    """How to call a model.

    Attributes:
        signature, input_name, output_name: names in the SavedModel; input_name is "" for a model
            that takes no picture.
        call: whether `signature` is one, or a function of a model that was saved without any.
        positional: of a function, the names of the tensors that it takes by position, in order.
        trailing: what it takes after them that is no tensor, such as training=False.
        loader: v1 for TF1 models that only a session can run.
        xla: compile it by XLA, for its fixed shapes.
        role: what the input takes: pixels, encoded images, or tf.Examples that hold them.
        feature: of the tf.Examples, with the encoded image.
        scalar_input: it takes one string, not a batch.
        multiple_of: both sides must be multiples of this; None when any size goes.
        tags: of the graph to load; None for the loader's own choice.
        input_dtype: dtype that the signature takes.
        input_layout: NHWC or NCHW.
        channels: RGB, BGR, L or Y; ids or one_hot for masks.
        value_range: (low, high) that 0 and 255 become.
        mean, std: by channel, after that; None for none.
        size_hw: fixed (height, width) of the input, or None when any size goes.
        fit, fill: how pictures get to that size, and the brightness of bars.
        max_side_px: longest side for a free size; None for no limit.
        fixed_batch: the only batch size that the signature takes; None for any.
        others: inputs that take no picture, sorted by name.
        kind: logits, softmax, sigmoid, class_ids or image; None until probed.
        output_layout: None until probed.
        output_range: (black, white) of the pictures that a model makes.
        output_channels: of the pictures that a model makes.
        threshold: for one probability or logit a pixel.
        id_offset: added to the model's class ids; negative ones become void.
        void_id: the model's class id that means "unlabelled".
        input_classes: of one-hot masks, how many channels.
        features_name: of a classifier, the output with its features; "" for its scores.
        classes: names by id; () until probed when the card names none.
        colors: "#rrggbb" by id; () for the built-in palette.
        receptive_field: (height, width) of the part of a picture that decides a pixel of the
            output, by the card.
    """

    signature: str
    tags: tuple[str, ...] | None
    input_name: str
    input_dtype: str
    input_layout: Layout
    channels: Channels
    value_range: tuple[float, float]
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    size_hw: Size | None
    max_side_px: int | None
    fixed_batch: int | None
    output_name: str
    kind: Kind | None
    output_layout: Layout | None
    threshold: float
    classes: tuple[str, ...]
    colors: tuple[str, ...]
    call: Call = "signature"
    positional: tuple[str, ...] = ()
    trailing: tuple[object, ...] = ()
    loader: Literal["v2", "v1"] = "v2"
    xla: bool = False
    role: Role = "image"
    feature: str = "image/encoded"
    scalar_input: bool = False
    multiple_of: int | None = None
    fit: Fit = "stretch"
    fill: float = 0.0
    others: tuple[OtherInput, ...] = ()
    output_range: tuple[float, float] | None = None
    output_channels: Literal["RGB", "BGR", "L"] = "RGB"
    id_offset: int = 0
    void_id: int | None = None
    input_classes: int = 0
    features_name: str = ""
    receptive_field: Size | None = None

    @property
    def num_classes(self) -> int:
        """How many ids a mask may hold, void aside."""
        return len(self.classes)

    @property
    def num_scores(self) -> int:
        """How many classes the model itself tells apart."""
        return len(self.classes) - self.id_offset

    @property
    def takes_picture(self) -> bool:
        return self.input_name != ""

    @property
    def takes_mask(self) -> bool:
        return self.channels in MASKS

    @property
    def makes_picture(self) -> bool:
        return self.kind == "image"

    @property
    def labels(self) -> int:
        """How many labels a generator can be asked for; 0 when it takes none."""
        return max((other.labels for other in self.others if other.role == "label"), default=0)

    def seen(self, size_hw: Size) -> Part:
        """The part of a picture of `size_hw` that the model is shown: all, unless fit is crop.

        Then it is the largest one with the aspect of the model's size, in the middle, rounded as
        Keras does (layers.Resizing with crop_to_aspect_ratio): down, and to the top left.
        """
        if self.size_hw is None or self.fit != "crop":
            return Part((0, 0), size_hw)
        (height, width), (model_h, model_w) = size_hw, self.size_hw
        part_h = min(height, max(1, width * model_h // model_w))
        part_w = min(width, max(1, height * model_w // model_h))
        return Part(((height - part_h) // 2, (width - part_w) // 2), (part_h, part_w))

    def model_size_hw(self, size_hw: Size) -> Size:
        """The (height, width) at which the model sees a picture of `size_hw`, to a multiple."""
        if self.size_hw is not None:
            return self.size_hw
        if self.max_side_px is not None and max(size_hw) > self.max_side_px:
            return _scaled(size_hw, self.max_side_px / max(size_hw))
        return size_hw

    def placed(self, size_hw: Size) -> Placement:
        """Where a picture of `size_hw`, or the part of it that is shown, lies in what the model
        sees."""
        model_hw = self.model_size_hw(size_hw)
        if self.size_hw is None or self.fit in ("stretch", "crop"):
            multiple = self.multiple_of or 1
            height, width = (-(-side // multiple) * multiple for side in model_hw)
            return Placement((height, width), (0, 0), model_hw)
        scale = min(model_hw[0] / size_hw[0], model_hw[1] / size_hw[1])
        if self.fit == "pad":
            scale = min(1.0, scale)
        inside_hw = _scaled(size_hw, scale)
        offset = (0, 0)
        if self.fit == "letterbox":
            offset = ((model_hw[0] - inside_hw[0]) // 2, (model_hw[1] - inside_hw[1]) // 2)
        return Placement(model_hw, offset, inside_hw)


def _scaled(size_hw: Size, scale: float) -> Size:
    return max(1, round(size_hw[0] * scale)), max(1, round(size_hw[1] * scale))

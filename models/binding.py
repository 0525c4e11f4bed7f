"""From signature and card to a binding: every question about a model answered, or an error.

Pure rules on names, dtypes and shapes first (`bind`); what only running can tell is found by one
picture (`models/probe.py`). Never "the first" of anything: TensorFlow orders signatures, inputs
and outputs differently in every process.
"""

import dataclasses
from typing import Literal

from models.callables import ITSELF, Call
from models.card import Channels, Kind, Layout, ModelCard, Role, parse_range
from models.errors import ModelError
from models.signatures import ModelInfo, SignatureInfo, TensorInfo

_IMAGE_DTYPES = ("uint8", "float32", "float16", "bfloat16", "float64", "int32")
_FLOATS = ("float32", "float16", "bfloat16", "float64")
_INTEGERS = ("uint8", "int32", "int64", "uint16", "int16", "int8", "bool")
_ENCODED_NAMES = ("image", "bytes", "encoded", "png", "jpeg", "jpg", "b64")
UNNAMED_CLASSES = 255  # ids that a class_ids model may answer when nobody says how many there are


@dataclasses.dataclass(frozen=True)
class Binding:
    """How to call a segmenter. Plain data: it is pickled to workers and stored in run.json.

    Attributes:
        signature, input_name, output_name: names in the SavedModel.
        call: whether `signature` is one, or a function of a model that was saved without any.
        loader: v1 for TF1 models that only a session can run.
        role: what the input takes: pixels, encoded images, or tf.Examples that hold them.
        feature: of the tf.Examples, with the encoded image.
        scalar_input: it takes one string, not a batch.
        multiple_of: both sides must be multiples of this; None when any size goes.
        tags: of the graph to load; None for the loader's own choice.
        input_dtype: dtype that the signature takes.
        input_layout: NHWC or NCHW.
        channels: RGB, BGR or L.
        value_range: (low, high) that 0 and 255 become.
        mean, std: by channel, after that; None for none.
        size_hw: fixed (height, width) of the input, or None when any size goes.
        max_side_px: longest side for a free size; None for no limit.
        fixed_batch: the only batch size that the signature takes; None for any.
        kind: logits, softmax, sigmoid or class_ids; None until probed.
        output_layout: None until probed.
        threshold: for one probability or logit a pixel.
        classes: names by id; () until probed when the card names none.
        colors: "#rrggbb" by id; () for the built-in palette.
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
    size_hw: tuple[int, int] | None
    max_side_px: int | None
    fixed_batch: int | None
    output_name: str
    kind: Kind | None
    output_layout: Layout | None
    threshold: float
    classes: tuple[str, ...]
    colors: tuple[str, ...]
    call: Call = "signature"
    loader: Literal["v2", "v1"] = "v2"
    role: Role = "image"
    feature: str = "image/encoded"
    scalar_input: bool = False
    multiple_of: int | None = None

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def model_size_hw(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """The (height, width) to which a picture of `size_hw` is resized for the model."""
        if self.size_hw is not None:
            return self.size_hw
        if self.max_side_px is not None and max(size_hw) > self.max_side_px:
            height, width = size_hw
            scale = self.max_side_px / max(size_hw)
            return max(1, round(height * scale)), max(1, round(width * scale))
        return size_hw

    def padded_size_hw(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """The (height, width) at which the model sees a picture that was resized to `size_hw`."""
        multiple = self.multiple_of or 1
        return -(-size_hw[0] // multiple) * multiple, -(-size_hw[1] // multiple) * multiple


def bind(info: ModelInfo, card: ModelCard) -> Binding:
    """Answers from signature and card what they can answer.

    Raises:
        ModelError: nothing fits, several do, or the card contradicts the signature. The message
            lists what the model offers and names the flag that decides.
    """
    signature = _pick_signature(info, card)
    image = _pick_input(info, signature, card)
    output = _pick_output(info, signature, card)
    if output.dtype in _INTEGERS and card.output.kind in ("softmax", "sigmoid"):
        raise ModelError(
            f"{info.path}: output {output} holds integers, which are no {card.output.kind}; "
            "give --output_kind=class_ids or another --output_name"
        )
    role = _role(info, image, card)
    layout, size_hw = _input_geometry(image, card)
    channels = _channels(image, layout, card)
    if card.output.kind is None and output.dtype in _INTEGERS:
        card = card.model_copy(
            update={"output": card.output.model_copy(update={"kind": "class_ids"})}
        )
    return Binding(
        signature=signature.name,
        call=signature.call,
        tags=_tags(info, card),
        input_name=image.name,
        input_dtype=image.dtype,
        input_layout=layout,
        channels=channels,
        value_range=_value_range(image, card),
        mean=_per_channel(image, "mean", card.input.mean, channels),
        std=_per_channel(image, "std", card.input.std, channels),
        size_hw=size_hw,
        max_side_px=card.input.max_side,
        multiple_of=_multiple_of(image, size_hw, card),
        fixed_batch=1 if image.shape == () else image.shape[0] if image.shape else None,
        role=role,
        feature=card.input.feature,
        scalar_input=image.shape == (),
        output_name=output.name,
        kind=card.output.kind,
        output_layout=card.output.layout,
        threshold=card.output.threshold,
        classes=tuple(card.classes or ()),
        colors=tuple(card.colors or ()),
    )


def _tags(info: ModelInfo, card: ModelCard) -> tuple[str, ...] | None:
    """Tags to load by; None where there is one graph and the loader takes it as it is."""
    if card.tags and info.tag_sets and set(card.tags) not in map(set, info.tag_sets):
        offered = "; ".join(",".join(tags) or "(no tag)" for tags in info.tag_sets)
        raise ModelError(
            f"{info.path} has no graph with the tags {','.join(card.tags)}; choose one by --tags. "
            f"It offers: {offered}"
        )
    if card.tags:
        return tuple(card.tags)
    return info.tags if len(info.tag_sets) > 1 else None


def _pick_signature(info: ModelInfo, card: ModelCard) -> SignatureInfo:
    by_name = {signature.name: signature for signature in info.signatures}
    if not by_name:
        raise ModelError(
            f"{info.path} has no signature, and no function that takes tensors: it was saved "
            "without any. Export it again with one, for example "
            "tf.saved_model.save(module, path, signatures=function)"
        )
    usual = ITSELF if ITSELF in by_name else "serving_default"
    wanted = card.signature or (next(iter(by_name)) if len(by_name) == 1 else usual)
    if wanted not in by_name:
        problem = f"no signature {wanted!r}" if card.signature else "several signatures"
        raise ModelError(
            f"{info.path} has {problem}; choose one by --signature. It offers\n{info.offers()}"
        )
    return by_name[wanted]


def _pick_input(info: ModelInfo, signature: SignatureInfo, card: ModelCard) -> TensorInfo:
    if card.input.name is not None:
        image = _named(info, signature.inputs, card.input.name, "input", signature)
    else:
        images = [t for t in signature.inputs if _may_be_image(t)]
        candidates = signature.inputs if len(signature.inputs) == 1 else images
        if len(candidates) != 1:
            raise ModelError(
                f"{info.path}: {len(images)} inputs of signature {signature.name!r} could take an "
                f"image, expected one; choose it by --input_name. It offers\n  {signature}"
            )
        image = candidates[0]
    if len(signature.inputs) > 1:
        others = [t.name for t in signature.inputs if t.name != image.name]
        raise ModelError(
            f"{info.path}: signature {signature.name!r} also wants {', '.join(others)}; "
            "only models with one input can be run. Export a signature that fixes the others"
        )
    if not _may_be_image(image) and not _may_be_encoded(image):
        raise ModelError(
            f"{info.path}: input {image} cannot take pixels: expected uint8 or float of rank 4, "
            "[batch, height, width, channels], or strings of rank 1 that hold encoded images; "
            f"choose another signature by --signature. It offers\n{info.offers()}"
        )
    return image


def _pick_output(info: ModelInfo, signature: SignatureInfo, card: ModelCard) -> TensorInfo:
    if card.output.name is not None:
        output = _named(info, signature.outputs, card.output.name, "output", signature)
        if output.dtype not in _FLOATS + _INTEGERS or _rank(output) not in (None, 3, 4):
            raise ModelError(
                f"{info.path}: output {output} cannot be masks: expected floats or integers of "
                "rank 3 or 4, [batch, height, width, classes]; choose another by --output_name. "
                f"It offers\n  {signature}"
            )
        return output
    # Scores carry the confidence, so they are preferred to class ids made from them.
    scores = [t for t in signature.outputs if t.dtype in _FLOATS and _rank(t) in (None, 4, 3)]
    ids = [t for t in signature.outputs if t.dtype in _INTEGERS and _rank(t) in (None, 3, 4)]
    candidates = scores or ids
    if len(candidates) != 1:
        raise ModelError(
            f"{info.path}: {len(candidates)} outputs of signature {signature.name!r} could be "
            f"masks, expected one; choose it by --output_name. It offers\n  {signature}"
        )
    return candidates[0]


def _named(
    info: ModelInfo,
    tensors: tuple[TensorInfo, ...],
    name: str,
    side: str,
    signature: SignatureInfo,
) -> TensorInfo:
    for tensor in tensors:
        if tensor.name == name:
            return tensor
    raise ModelError(
        f"{info.path}: signature {signature.name!r} has no {side} {name!r}; "
        f"choose one by --{side}_name. It offers\n  {signature}"
    )


def _may_be_image(tensor: TensorInfo) -> bool:
    return tensor.dtype in _IMAGE_DTYPES and _rank(tensor) in (None, 4)


def _may_be_encoded(tensor: TensorInfo) -> bool:
    return tensor.dtype == "string" and _rank(tensor) in (None, 0, 1)


def _role(info: ModelInfo, image: TensorInfo, card: ModelCard) -> Role:
    """What an input takes; strings tell it by their name, or are asked for."""
    asked = card.input.role
    if image.dtype != "string":
        if asked not in (None, "image"):
            raise ModelError(
                f"{info.path}: input {image} takes pixels, no strings; leave --input_role={asked} "
                "out or choose another --input_name"
            )
        return "image"
    name = image.name.lower()
    example = "example" in name
    encoded = any(word in name for word in _ENCODED_NAMES)
    if asked == "image" or (asked is None and example == encoded):
        raise ModelError(
            f"{info.path}: input {image} takes strings, and a signature does not say of what. Give "
            "--input_role=bytes for encoded images, or --input_role=example for tf.Examples"
        )
    given = [n for n in ("range", "mean", "std", "layout") if getattr(card.input, n) is not None]
    if given:
        raise ModelError(
            f"{info.path}: input {image} takes encoded images, which the model decodes and scales "
            f"by itself; leave out {', '.join(given)}"
        )
    return asked or ("example" if example else "bytes")


def _multiple_of(image: TensorInfo, size_hw: tuple[int, int] | None, card: ModelCard) -> int | None:
    if card.input.multiple_of is not None and size_hw is not None:
        raise ModelError(
            f"input {image} has the fixed size {size_hw[0]}x{size_hw[1]}; leave --multiple_of out"
        )
    return card.input.multiple_of


def _per_channel(
    image: TensorInfo, name: str, values: list[float] | None, channels: Channels
) -> tuple[float, ...] | None:
    """Mean or std, checked against the channels that the input was found to have."""
    wanted = 1 if channels == "L" else 3
    if values and len(values) not in (1, wanted):
        raise ModelError(
            f"input {image} has {wanted} channel, but --{name} gives {len(values)} numbers; "
            "give one"
        )
    return tuple(values) if values else None


def _rank(tensor: TensorInfo) -> int | None:
    return None if tensor.shape is None else len(tensor.shape)


def _input_geometry(image: TensorInfo, card: ModelCard) -> tuple[Layout, tuple[int, int] | None]:
    """Layout and fixed size of the input, checked against the card."""
    layout = card.input.layout
    shape = (image.dtype != "string" and image.shape) or (None, None, None, None)
    if layout is None:
        layout = "NCHW" if shape[1] in (1, 3) and shape[3] not in (1, 3) else "NHWC"
    height, width = shape[1:3] if layout == "NHWC" else shape[2:4]
    size = card.input.size
    for name, fixed, asked in (
        ("height", height, size and size[0]),
        ("width", width, size and size[1]),
    ):
        if fixed is not None and asked is not None and fixed != asked:
            raise ModelError(
                f"input {image} has {name} {fixed}, --image_size asks for {asked}; "
                "the model takes no other size, leave the flag out"
            )
    if height is not None and width is not None:
        return layout, (height, width)
    if size is None and (height is not None or width is not None):
        raise ModelError(f"input {image} fixes one side only; give --image_size HEIGHTxWIDTH")
    return layout, size


def _channels(image: TensorInfo, layout: Layout, card: ModelCard) -> Channels:
    axis = 3 if layout == "NHWC" else 1
    found = image.shape[axis] if image.shape and image.dtype != "string" else None
    wanted = 1 if card.input.channels == "L" else 3
    if found is None or found == wanted:
        return card.input.channels
    if found == 1:
        return "L"
    raise ModelError(
        f"input {image} has {found} channels in layout {layout}, expected {wanted} for "
        f"{card.input.channels}; give --input_layout or --channels"
    )


def _value_range(image: TensorInfo, card: ModelCard) -> tuple[float, float]:
    asked = None if card.input.range is None else parse_range(card.input.range)
    if image.dtype not in _FLOATS:
        if asked not in (None, (0.0, 255.0)) or card.input.mean or card.input.std:
            raise ModelError(
                f"input {image} takes whole numbers, which a range of {card.input.range}, a mean "
                "or a std would round away; leave --value_range, --mean and --std out"
            )
        return 0.0, 255.0
    if asked is not None:
        return asked
    raise ModelError(
        f"input {image} takes floats, and a signature does not say of which range. A wrong one "
        "gives wrong masks without an error. Give --value_range=0,1 or --value_range=-1,1 or "
        "--value_range=0,255 (the last when the model scales by itself)"
    )

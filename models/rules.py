"""From signature and card to a binding: every question about a model answered, or an error.

Pure rules on names, dtypes and shapes first (`bind`); what only running can tell is found by one
picture (`models/probe.py`). Never "the first" of anything: TensorFlow orders signatures, inputs
and outputs differently in every process.
"""

from collections.abc import Callable

from models.binding import Binding, OtherInput
from models.callables import ITSELF
from models.card import MASKS, Channels, Layout, ModelCard, Role, parse_range
from models.errors import ModelError
from models.rules_inputs import bind_others, mask_classes
from models.signatures import ModelInfo, SignatureInfo, TensorInfo

_IMAGE_DTYPES = ("uint8", "float32", "float16", "bfloat16", "float64", "int32")
_FLOATS = ("float32", "float16", "bfloat16", "float64")
_INTEGERS = ("uint8", "int32", "int64", "uint16", "int16", "int8", "bool")
_ENCODED_NAMES = ("image", "bytes", "encoded", "png", "jpeg", "jpg", "b64")
UNNAMED_CLASSES = 255  # ids that a class_ids model may answer when nobody says how many there are


def bind(
    info: ModelInfo,
    card: ModelCard,
    pick: Callable[[ModelInfo, SignatureInfo, ModelCard], TensorInfo] | None = None,
) -> Binding:
    """Answers from signature and card what they can answer.

    With output.kind "image" in the card, the model is one that makes pictures: from a picture, or
    from noise, labels and constants alone. Without it, it is a segmenter; or what `pick` says,
    which chooses the output (see models/classifier.py).

    Raises:
        ModelError: nothing fits, several do, or the card contradicts the signature. The message
            lists what the model offers and names the flag that decides.
    """
    signature = _pick_signature(info, card)
    makes_picture = card.output.kind == "image"
    image = _pick_input(info, signature, card, makes_picture)
    if pick is None:
        output = _pick_output(info, signature, card, makes_picture)
    else:
        output = pick(info, signature, card)
    if output.dtype in _INTEGERS and card.output.kind in ("softmax", "sigmoid"):
        raise ModelError(
            f"{info.path}: output {output} holds integers, which are no {card.output.kind}; "
            "give --output_kind=class_ids or another --output_name"
        )
    others = bind_others(info, signature, image, card)
    role: Role = "image"
    layout: Layout = "NHWC"
    channels: Channels = "RGB"
    size_hw = None
    if image is not None:
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
        positional=signature.positional,
        trailing=signature.trailing,
        tags=_tags(info, card),
        input_name=image.name if image else "",
        input_dtype=image.dtype if image else "",
        input_layout=layout,
        channels=channels,
        value_range=_value_range(image, card) if image else (0.0, 255.0),
        mean=_per_channel(image, "mean", card.input.mean, channels) if image else None,
        std=_per_channel(image, "std", card.input.std, channels) if image else None,
        size_hw=size_hw,
        fit=card.input.fit,
        fill=card.input.fill,
        max_side_px=card.input.max_side,
        multiple_of=_multiple_of(image, size_hw, card) if image else None,
        fixed_batch=_fixed_batch(image, signature, others),
        input_classes=mask_classes(image, layout, card) if image else 0,
        role=role,
        feature=card.input.feature,
        scalar_input=image is not None and image.shape == (),
        others=others,
        output_name=output.name,
        kind=card.output.kind,
        output_layout=card.output.layout,
        output_range=_output_range(output, card) if makes_picture else None,
        output_channels=card.output.channels or ("BGR" if channels == "BGR" else "RGB"),
        threshold=card.output.threshold,
        id_offset=card.output.id_offset,
        void_id=card.output.void_id,
        classes=tuple(card.classes or ()),
        colors=tuple(card.colors or ()),
        receptive_field=card.receptive_field,
    )


def _fixed_batch(
    image: TensorInfo | None, signature: SignatureInfo, others: tuple[OtherInput, ...]
) -> int | None:
    """The batch that the shapes of the inputs ask for."""
    batched = {other.name for other in others if other.batched}
    shapes = [t.shape for t in signature.inputs if t.name in batched]
    if image is not None:
        shapes.insert(0, image.shape or ((None,) if image.shape is None else (1,)))
    return next((shape[0] for shape in shapes if shape and shape[0] is not None), None)


def _output_range(output: TensorInfo, card: ModelCard) -> tuple[float, float] | None:
    """Black and white of the pictures; None when only a test run can suggest it."""
    if card.output.range is not None:
        return parse_range(card.output.range)
    return (0.0, 255.0) if output.dtype in _INTEGERS else None


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


def _pick_input(
    info: ModelInfo, signature: SignatureInfo, card: ModelCard, makes_picture: bool
) -> TensorInfo | None:
    """The input that takes the picture; None for a model that makes pictures of nothing."""
    if not signature.inputs:
        raise ModelError(
            f"{info.path}: signature {signature.name!r} takes nothing; choose another by "
            "--signature, or export one that takes its pictures or random numbers as an input. "
            f"It offers\n{info.offers()}"
        )
    if card.input.name is not None:
        image = _named(info, signature.inputs, card.input.name, "input", signature)
    else:
        free = [t for t in signature.inputs if t.name not in card.inputs]
        images = [t for t in free if _may_be_image(t, card)]
        if not images:  # strings whose names say so; beside them may be a key
            images = [t for t in free if _may_be_encoded(t) and _encoded_role(t) is not None]
        if makes_picture and not images and not (len(free) == 1 and _may_be_encoded(free[0])):
            return None
        candidates = free if len(free) == 1 else images
        if len(candidates) != 1:
            raise ModelError(
                f"{info.path}: {len(images)} inputs of signature {signature.name!r} could take an "
                f"image, expected one; choose it by --input_name. It offers\n  {signature}"
            )
        image = candidates[0]
    if not _may_be_image(image, card) and not _may_be_encoded(image):
        raise ModelError(
            f"{info.path}: input {image} cannot take pixels: expected uint8 or float of rank 4, "
            "[batch, height, width, channels], or strings of rank 1 that hold encoded images; "
            "choose another signature by --signature. If the model makes pictures from it, run "
            f"pixelmill generate. It offers\n{info.offers()}"
        )
    return image


def _pick_output(
    info: ModelInfo, signature: SignatureInfo, card: ModelCard, makes_picture: bool
) -> TensorInfo:
    what = "pictures" if makes_picture else "masks"
    if card.output.name is not None:
        output = _named(info, signature.outputs, card.output.name, "output", signature)
        if output.dtype not in _FLOATS + _INTEGERS or _rank(output) not in (None, 3, 4):
            raise ModelError(
                f"{info.path}: output {output} cannot be {what}: expected floats or integers of "
                "rank 3 or 4, [batch, height, width, channels]; choose another by --output_name. "
                f"It offers\n  {signature}"
            )
        return output
    # Scores carry the confidence, so they are preferred to class ids made from them.
    scores = [t for t in signature.outputs if t.dtype in _FLOATS and _rank(t) in (None, 4, 3)]
    ids = [t for t in signature.outputs if t.dtype in _INTEGERS and _rank(t) in (None, 3, 4)]
    candidates = scores or ids
    if len(candidates) > 1:  # boxes [N, 100, 4] and the like beside a map
        candidates = [t for t in candidates if not _is_table(t)] or candidates
    if makes_picture:
        candidates = [t for t in signature.outputs if _may_be_picture(t)]
    if len(candidates) != 1:
        raise ModelError(
            f"{info.path}: {len(candidates)} outputs of signature {signature.name!r} could be "
            f"{what}, expected one; choose it by --output_name. It offers\n  {signature}"
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


def _may_be_image(tensor: TensorInfo, card: ModelCard) -> bool:
    """Whether a tensor takes pixels. [N, 1, 1, 512] is of rank 4 too, and takes noise."""
    if card.input.channels in MASKS:
        return tensor.dtype in _IMAGE_DTYPES + _INTEGERS and _rank(tensor) in (None, 4)
    if tensor.dtype not in _IMAGE_DTYPES or _rank(tensor) not in (None, 4):
        return False
    shape = tensor.shape or (None,) * 4
    nhwc, nchw = (shape[1:3], shape[3]), (shape[2:4], shape[1])
    return any(1 not in sides and (n is None or n <= 4) for sides, n in (nhwc, nchw))


def _is_table(tensor: TensorInfo) -> bool:
    """Whether rows of a few numbers are more likely than a map with one number a pixel."""
    sides = [size for size in (tensor.shape or ())[1:] if size is not None]
    return _rank(tensor) == 3 and len(sides) == 2 and sides[0] != sides[1] and min(sides) <= 4


def _may_be_picture(tensor: TensorInfo) -> bool:
    """Whether an output may hold pictures: one to four channels, as far as the shape tells."""
    if tensor.dtype not in (*_FLOATS, "uint8") or _rank(tensor) not in (None, 4):
        return False
    ends = (tensor.shape[1], tensor.shape[3]) if tensor.shape else (None,)
    return any(size is None or size <= 4 for size in ends)


def _may_be_encoded(tensor: TensorInfo) -> bool:
    return tensor.dtype == "string" and _rank(tensor) in (None, 0, 1)


def _encoded_role(tensor: TensorInfo) -> Role | None:
    """What strings hold, where their name says it."""
    name = tensor.name.lower()
    example = "example" in name
    encoded = any(word in name for word in _ENCODED_NAMES)
    if example == encoded:
        return None
    return "example" if example else "bytes"


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
    found = asked or _encoded_role(image)
    if found is None or found == "image":
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
    return found


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
    wanted = 1 if channels in ("L", "Y") else 3
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
    if card.input.channels in MASKS and card.input.fit != "stretch":
        raise ModelError(
            f"--fit={card.input.fit} puts bars around, and masks have none; leave it out"
        )
    if size is None and card.input.fit != "stretch" and height is None and width is None:
        raise ModelError(
            f"--fit={card.input.fit} needs a size to fit into, and input {image} takes any; "
            "give --image_size HEIGHTxWIDTH, or leave --fit out"
        )
    if size is None and (height is not None or width is not None):
        raise ModelError(f"input {image} fixes one side only; give --image_size HEIGHTxWIDTH")
    return layout, size


def _channels(image: TensorInfo, layout: Layout, card: ModelCard) -> Channels:
    axis = 3 if layout == "NHWC" else 1
    found = image.shape[axis] if image.shape and image.dtype != "string" else None
    if card.input.channels == "one_hot":
        return "one_hot"
    wanted = 1 if card.input.channels in ("L", "Y", "ids") else 3
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
    if card.input.channels in MASKS:
        return 0.0, 255.0
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

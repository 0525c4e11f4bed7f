"""What only running can tell: one test picture, or item, settles layout, kind and classes."""

import dataclasses
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from models.binding import Binding
from models.card import MAX_CLASSES, Kind, Layout
from models.errors import ModelError
from models.generator import Generator
from models.latents import draw
from models.loading import first_line, is_tf1
from models.probe_pictures import complete_picture
from models.rules import UNNAMED_CLASSES
from models.segmenter import Segmenter

Model = TypeVar("Model", Segmenter, Generator)

# For models of free size. Unequal sides tell the layout; both are multiples of 64.
_PROBE_HW = (128, 192)
_ODD_HW = (131, 197)
_MULTIPLES = (2, 4, 8, 16, 32, 64)
_SUM_TOLERANCE = 1e-2


def probe(path: str, binding: Binding) -> Binding:
    """Runs the model on one picture, or one item, and fills in what the card left open.

    Raises:
        ModelError: the model cannot be loaded or run, or its answer is no map of classes, or no
            picture where it should make one.
    """
    if not binding.takes_picture:
        return _probe_generator(path, binding)
    segmenter = _load(Segmenter, path, binding)
    binding = segmenter.binding
    size_hw = binding.model_size_hw(binding.size_hw or _PROBE_HW)
    try:
        output = _scores(segmenter, size_hw)
    except Exception as error:  # whatever a stranger's graph raises
        raise ModelError(
            f"{path} fails on a picture of {size_hw[0]}x{size_hw[1]}: {first_line(error)}. "
            "Check --value_range, --channels, --input_layout and --image_size"
        ) from error
    if binding.makes_picture:
        binding = complete_picture(path, binding, output)
        if binding.size_hw is None and binding.multiple_of is None:
            _check_odd_sizes(segmenter, path)
        return binding
    size_hw = binding.placed(size_hw).canvas_hw
    if output.ndim == 2:  # one value a pixel has no axis to lay out
        output = np.expand_dims(output, 0 if binding.output_layout == "NCHW" else 2)
    if output.ndim != 3:
        raise ModelError(
            f"{path}: output {binding.output_name!r} has shape {output.shape} for one picture, "
            "expected [height, width, classes]; choose another by --output_name"
        )
    layout = binding.output_layout or _find_layout(output, size_hw, path)
    scores = np.moveaxis(output, 0, -1) if layout == "NCHW" else output
    kind = binding.kind or _find_kind(scores, path)
    if binding.size_hw is None and binding.multiple_of is None:
        _check_odd_sizes(segmenter, path)
    return dataclasses.replace(
        binding, output_layout=layout, kind=kind, classes=_classes(binding, kind, scores, path)
    )


def _probe_generator(path: str, binding: Binding) -> Binding:
    generator = _load(Generator, path, binding)
    item = draw(binding, seed=0, item=0, attempt=0, label=0 if binding.labels else None)
    try:
        output = np.asarray(generator.answer([item]).numpy()[0])
    except Exception as error:  # whatever a stranger's graph raises
        raise ModelError(
            f"{path} fails on a test item: {first_line(error)}. Check inputs in the card"
        ) from error
    return complete_picture(path, generator.binding, output)


def _load(kind: type[Model], path: str, binding: Binding) -> Model:
    """Loads by TensorFlow's loader, or in a session where that fails and the model is TF1's."""
    try:
        return kind(path, binding)
    except ModelError as error:
        if binding.loader == "v1" or not is_tf1(path):
            raise
        try:
            return kind(path, dataclasses.replace(binding, loader="v1"))
        except ModelError:
            raise error from None  # the reason that the newer loader gives says more


def _scores(segmenter: Segmenter, size_hw: tuple[int, int]) -> npt.NDArray[Any]:
    """The model's answer to one picture. Raises whatever its graph does."""
    image = _test_picture(size_hw)
    return np.asarray(segmenter.scores(segmenter.prepare(image[np.newaxis])).numpy()[0])


def _check_odd_sizes(segmenter: Segmenter, path: str) -> None:
    """Refuses a model that takes only some sizes, and says which multiple it takes."""
    try:
        _scores(segmenter, _ODD_HW)
        return
    except Exception as error:
        failed, reason = error, first_line(error)
    multiple = next((m for m in _MULTIPLES if _takes_multiple(segmenter, m)), None)
    if multiple:
        advice = f"Its sides must be multiples of {multiple}: give --multiple_of={multiple}"
    else:
        advice = "Give --image_size, or --multiple_of"
    raise ModelError(
        f"{path} takes a picture of {_PROBE_HW[0]}x{_PROBE_HW[1]} but fails on one of "
        f"{_ODD_HW[0]}x{_ODD_HW[1]}: {reason}. {advice}"
    ) from failed


def _takes_multiple(segmenter: Segmenter, multiple: int) -> bool:
    """Tries sides near the odd ones that are multiples of this, and of no larger power of two."""
    height, width = (multiple * (side // multiple // 2 * 2 + 1) for side in _ODD_HW)
    try:
        _scores(segmenter, (height, width))
    except Exception:  # whatever a stranger's graph raises: it does not take them
        return False
    return True


def _test_picture(size_hw: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """A ramp with noise: no value is missing, nothing is flat."""
    height, width = size_hw
    ramp = np.linspace(0, 255, height * width * 3).reshape(height, width, 3)
    noise = np.random.default_rng(0).normal(0, 40, ramp.shape)
    return np.clip(ramp + noise, 0, 255).astype(np.uint8)


def _find_layout(output: npt.NDArray[Any], size_hw: tuple[int, int], path: str) -> Layout:
    """Which two axes are a picture: their ratio is the input's (rounded up at a stride), or they
    are equal where none has its ratio."""
    as_nhwc = _looks_scaled(output.shape[:2], size_hw)
    as_nchw = _looks_scaled(output.shape[1:], size_hw)
    if as_nhwc != as_nchw:
        return "NHWC" if as_nhwc else "NCHW"
    if as_nhwc:  # so many classes that they look like a side, e.g. [8, 12, 21] of 128x192
        as_nhwc = _has_whole_stride(output.shape[:2], size_hw)
        if as_nhwc != _has_whole_stride(output.shape[1:], size_hw):
            return "NHWC" if as_nhwc else "NCHW"
    equal = output.shape[0] == output.shape[1], output.shape[1] == output.shape[2]
    # a model that resizes all pictures to one square
    if not as_nhwc and equal[0] != equal[1] and output.shape[1] > 1:
        return "NHWC" if equal[0] else "NCHW"
    raise ModelError(
        f"{path}: the model answers {list(output.shape)} for a picture of "
        f"{size_hw[0]}x{size_hw[1]}; which axis holds the classes is unclear. "
        "Give --output_layout=NHWC or NCHW"
    )


def _looks_scaled(found: tuple[int, ...], size_hw: tuple[int, int]) -> bool:
    scales = [found[axis] / size_hw[axis] for axis in (0, 1)]
    slack = [1.5 / size_hw[axis] + 0.02 * scales[axis] for axis in (0, 1)]
    return abs(scales[0] - scales[1]) <= sum(slack) and min(found) > 1


def _has_whole_stride(found: tuple[int, ...], size_hw: tuple[int, int]) -> bool:
    """Whether `found` is the picture divided or multiplied by a whole number, as networks do.

    Where a side cannot be divided, only the usual strides count, rounded up or down.
    """
    height, width = size_hw
    whole = height % found[0] == 0 or found[0] % height == 0
    if whole and found[0] * width == found[1] * height:
        return True
    return any(
        found in ((-(-height // stride), -(-width // stride)), (height // stride, width // stride))
        for stride in (2, 4, 8, 16, 32, 64)
    )


def _find_kind(scores: npt.NDArray[Any], path: str) -> Kind:
    if not np.isfinite(scores).all():
        raise ModelError(f"{path} answers NaN or infinity for a test picture; check --value_range")
    in_unit = scores.min() >= 0 and scores.max() <= 1
    if scores.shape[-1] == 1:
        if scores.max() > 1 and (scores == np.round(scores)).all():
            raise ModelError(
                f"{path} answers whole numbers from {scores.min():g} to {scores.max():g} as "
                "floats: class ids, or one logit a pixel? Give --output_kind=class_ids or "
                "--output_kind=logits"
            )
        return "sigmoid" if in_unit else "logits"
    if in_unit and np.abs(scores.sum(axis=-1) - 1).max() < _SUM_TOLERANCE:
        return "softmax"
    if in_unit:
        raise ModelError(
            f"{path} answers {scores.shape[-1]} values in [0, 1] a pixel that do not sum to 1: "
            "independent labels are not supported. If they are scores of one choice, give "
            "--output_kind=logits or --output_kind=softmax"
        )
    return "logits"


def _classes(binding: Binding, kind: Kind, scores: npt.NDArray[Any], path: str) -> tuple[str, ...]:
    offset = binding.id_offset
    if kind == "class_ids":
        if scores.shape[-1] != 1:
            raise ModelError(
                f"{path} answers {scores.shape[-1]} integers a pixel, expected one class id; "
                "choose another output by --output_name, or give --output_kind=logits"
            )
        count = 2 if scores.dtype == np.bool_ else UNNAMED_CLASSES
        return binding.classes or tuple(f"class {i}" for i in range(count))
    if scores.shape[-1] == 1 and scores.dtype.kind in "iub":
        raise ModelError(
            f"{path} answers one whole number a pixel, which is a class id and no {kind}; "
            "give --output_kind=class_ids or leave it out"
        )
    if kind == "sigmoid" and scores.shape[-1] > 1:
        raise ModelError(
            f"{path} answers {scores.shape[-1]} values a pixel, expected one for --output_kind="
            "sigmoid: independent labels are not supported. If they are scores of one choice, "
            "give --output_kind=softmax or --output_kind=logits"
        )
    count = max(2, scores.shape[-1]) + offset
    if count < 1:
        raise ModelError(f"{path}: with an id_offset of {offset} no class is left; correct it")
    if count > MAX_CLASSES:
        raise ModelError(f"{path} answers {count} classes, more than {MAX_CLASSES} fit a mask")
    if binding.classes and len(binding.classes) != count:
        raise ModelError(
            f"{path} answers {count} classes, but {len(binding.classes)} names were given: "
            f"{', '.join(binding.classes[:5])}...; correct --classes or the card"
        )
    return binding.classes or tuple(f"class {i}" for i in range(count))

"""What only running can tell about a model that makes pictures: layout, and a range to propose."""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from models.binding import Binding
from models.card import Layout, parse_range
from models.errors import ModelError

_CHANNELS = (1, 3, 4)
_TOO_MUCH = 0.2


def complete_picture(path: str, binding: Binding, output: npt.NDArray[Any]) -> Binding:
    """Fills in what the card left open, by the model's answer to one item.

    Args:
        output: [h, w, C], [C, h, w] or [h, w] of any dtype.

    Raises:
        ModelError: it is no picture, is not finite, or its range is not known or plainly wrong.
    """
    if output.ndim not in (2, 3):
        raise ModelError(
            f"{path}: output {binding.output_name!r} has shape {output.shape} for one item, "
            "expected a picture, [height, width, channels]; choose another by --output_name"
        )
    layout = binding.output_layout or _find_layout(path, output)
    if not np.isfinite(output).all():
        raise ModelError(f"{path} answers NaN or infinity for a test item; check the card")
    low, high = float(output.min()), float(output.max())
    if binding.output_range is None:
        raise ModelError(
            f"{path} makes numbers from {low:.3g} to {high:.3g}, and does not say which mean black "
            f"and white. It looks like --output_range={_likely_range(low, high)}; say so, or better"
        )
    black, white = sorted(binding.output_range)
    slack = (white - black) / 255
    outside = float(np.mean((output < black - slack) | (output > white + slack)))
    # The test picture is dark and bright; of noise, a picture that is only bright may come.
    half_used = binding.takes_picture and low > black + 0.4 * (white - black)
    if outside > _TOO_MUCH or half_used:
        wrong = (
            f"{outside:.0%} of them outside" if outside > _TOO_MUCH else "none in the dark half of"
        )
        likely = _likely_range(low, high)
        advice = f"It looks like --output_range={likely}"
        if parse_range(likely) == (black, white):
            advice = "Give another --output_range; or is it no picture, but scores of classes?"
        raise ModelError(
            f"{path} makes numbers from {low:.3g} to {high:.3g}, {wrong} "
            f"--output_range={black:g},{white:g}. {advice}"
        )
    channels = 1 if output.ndim == 2 else output.shape[-1 if layout == "NHWC" else 0]
    grey = channels == 1 and binding.channels != "Y"  # that gets its colours back
    output_channels = "L" if grey else binding.output_channels
    return dataclasses.replace(
        binding, output_layout=layout, output_channels=output_channels, classes=_labels(binding)
    )


def _find_layout(path: str, output: npt.NDArray[Any]) -> Layout:
    if output.ndim == 2 or output.shape[-1] in _CHANNELS:
        return "NHWC"
    if output.shape[0] in _CHANNELS:
        return "NCHW"
    raise ModelError(
        f"{path}: the model answers {list(output.shape)} for one item, expected 1, 3 or 4 "
        "channels of a picture first or last; choose another by --output_name"
    )


def _likely_range(low: float, high: float) -> str:
    """Networks overshoot a little where nothing bounds them."""
    if high > 8:
        return "0,255"
    return "-1,1" if low < -0.3 else "0,1"


def _labels(binding: Binding) -> tuple[str, ...]:
    return binding.classes or tuple(f"class {i}" for i in range(binding.labels))

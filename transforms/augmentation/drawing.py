"""Drawing: from a step of the recipe to one operation, with numbers in place of ranges.

An operation is a dict that JSON holds unchanged: {"step": "rotate", "degrees": 4.2}. It says all
that `apply` needs beside the picture, so that what was drawn can be told, and done again.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from transforms.augmentation import steps as kinds
from transforms.augmentation.draws import Draws
from transforms.augmentation.mixing import instances
from transforms.augmentation.scene import Scene
from transforms.failures import Failure

Operation = dict[str, Any]


class Partners(Protocol):
    """Other pictures of the shard."""

    def choose(self, draws: Draws, index: int, classes: Sequence[int] = ()) -> Scene | None:
        """One that is not record `index`, and shows one of some classes if any are given; None
        when there is none."""


def draw(step: Any, draws: Draws, scene: Scene, partners: Partners | None) -> Operation | None:
    """The operation for a scene as it is before the step; None when it is not to be done.

    Raises:
        Failure: the step cannot be done to such a scene.
    """
    if not draws.chance(step.p):
        return None
    numbers = _NUMBERS[type(step)](step, draws, scene, partners)
    return None if numbers is None else {"step": step.step, **numbers}


def _flip(step: kinds.Flip, *_: Any) -> Operation:
    return {"axis": step.axis}


def _quarter_turn(step: kinds.QuarterTurn, draws: Draws, *_: Any) -> Operation | None:
    turns = draws.whole(0, 3)
    return {"turns": turns} if turns else None


def _rotate(step: kinds.Rotate, draws: Draws, *_: Any) -> Operation:
    return {"degrees": draws.uniform(*step.degrees)}


def _scale_crop(step: kinds.ScaleCrop, draws: Draws, scene: Scene, *_: Any) -> Operation:
    size_hw = step.size or scene.pixels.shape[:2]
    scale = draws.uniform(*step.scale)
    cuts = [
        _cut(draws, have, want, scale)
        for have, want in zip(scene.pixels.shape[:2], size_hw, strict=True)
    ]
    (top, height, y, rows), (left, width, x, columns) = cuts
    return {
        "size_hw": list(size_hw),
        "box": [top, left, height, width],
        "at": [y, x, rows, columns],
    }


def _cut(draws: Draws, have_px: int, want_px: int, scale: float) -> tuple[float, float, int, int]:
    """Along one side: where the part begins, how long it is, where it goes, how long there."""
    if have_px * scale >= want_px:
        length = min(float(have_px), round(want_px / scale, 6))
        return min(draws.uniform(0, have_px - length), have_px - length), length, 0, want_px
    becomes = max(1, round(have_px * scale))
    return 0.0, float(have_px), draws.whole(0, want_px - becomes), becomes


def _elastic(step: kinds.Elastic, draws: Draws, *_: Any) -> Operation:
    return {"seed": draws.seed(), "amount": step.amount, "spacing": step.spacing}


def _perspective(step: kinds.Perspective, draws: Draws, *_: Any) -> Operation:
    usual = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
    moved = [
        [round(part + draws.uniform(-step.amount, step.amount), 6) for part in corner]
        for corner in usual
    ]
    return {"corners": moved}


def _colour(step: kinds.Colour, draws: Draws, *_: Any) -> Operation:
    names = ("brightness", "contrast", "saturation", "hue")
    return {name: draws.uniform(*getattr(step, name)) for name in names}


def _gamma(step: kinds.Gamma, draws: Draws, *_: Any) -> Operation:
    return {"exponent": draws.uniform(*step.gamma)}


def _noise(step: kinds.Noise, draws: Draws, *_: Any) -> Operation:
    return {"sigma": draws.uniform(*step.sigma), "seed": draws.seed()}


def _blur(step: kinds.Blur, draws: Draws, *_: Any) -> Operation:
    return {"radius_px": draws.uniform(*step.radius_px)}


def _jpeg(step: kinds.Jpeg, draws: Draws, *_: Any) -> Operation:
    return {"quality": draws.whole(*step.quality)}


def _night(step: kinds.Night, draws: Draws, *_: Any) -> Operation:
    return {"darkness": draws.uniform(*step.darkness), "seed": draws.seed()}


def _fog(step: kinds.Fog, draws: Draws, *_: Any) -> Operation:
    return {"density": draws.uniform(*step.density), "seed": draws.seed()}


def _cutout(step: kinds.Cutout, draws: Draws, scene: Scene, *_: Any) -> Operation:
    boxes = []
    for _each in range(step.boxes):
        parts = [draws.uniform(*step.size) for _side in range(2)]
        boxes.append(_box(draws, scene, parts))
    return {"boxes": boxes}


def _box(draws: Draws, scene: Scene, parts: Sequence[float]) -> list[int]:
    """[top, left, height, width] somewhere in a picture, as large as these parts of its sides."""
    sides = scene.pixels.shape[:2]
    long = [max(1, round(side * part)) for side, part in zip(sides, parts, strict=True)]
    begins = [draws.whole(0, side - length) for side, length in zip(sides, long, strict=True)]
    return [*begins, *long]


def _cutmix(
    step: kinds.CutMix, draws: Draws, scene: Scene, partners: Partners | None
) -> Operation | None:
    if (other := _partner(step, draws, scene, partners)) is None:
        return None
    side = draws.uniform(*step.area) ** 0.5
    return {"partner": _name(other), "box": _box(draws, scene, (side, side))}


def _mixup(
    step: kinds.MixUp, draws: Draws, scene: Scene, partners: Partners | None
) -> Operation | None:
    if scene.mask is not None:
        raise Failure(
            "check",
            "mask_format",
            "mixup blends two pictures, and class ids of two masks cannot be blended; use cutmix "
            "or copy_paste for pictures with masks",
        )
    if (other := _partner(step, draws, scene, partners)) is None:
        return None
    return {"partner": _name(other), "weight": draws.uniform(*step.weight)}


def _copy_paste(
    step: kinds.CopyPaste, draws: Draws, scene: Scene, partners: Partners | None
) -> Operation | None:
    if scene.mask is None:
        raise Failure(
            "check", "mask_missing", "copy_paste takes instances from masks; leave out the step"
        )
    if (other := _partner(step, draws, scene, partners, step.classes)) is None:
        return None
    assert other.mask is not None
    found = instances(other.mask, step.classes, step.min_pixels)
    if not found:
        return None
    pastes = []
    for _each in range(step.instances):
        instance = found[draws.whole(0, len(found) - 1)]
        # its middle lies in the picture
        top, left = (
            draws.whole(0, side - 1) - length // 2
            for side, length in zip(scene.pixels.shape[:2], instance.size_hw, strict=True)
        )
        row, column = np.argwhere(instance.where)[0].tolist()
        first = [instance.rows.start + row, instance.columns.start + column]
        pastes.append({"class_id": instance.class_id, "pixel": first, "top": top, "left": left})
    return {"partner": _name(other), "pastes": pastes}


def _partner(
    step: Any,
    draws: Draws,
    scene: Scene,
    partners: Partners | None,
    classes: Sequence[int] = (),
) -> Scene | None:
    return None if partners is None else partners.choose(draws, scene.index, classes)


def _name(scene: Scene) -> dict[str, Any]:
    return {"key": scene.key, "index": scene.index}


_NUMBERS: dict[type, Any] = {
    kinds.Flip: _flip,
    kinds.QuarterTurn: _quarter_turn,
    kinds.Rotate: _rotate,
    kinds.ScaleCrop: _scale_crop,
    kinds.Elastic: _elastic,
    kinds.Perspective: _perspective,
    kinds.Colour: _colour,
    kinds.Gamma: _gamma,
    kinds.Noise: _noise,
    kinds.Blur: _blur,
    kinds.Jpeg: _jpeg,
    kinds.Night: _night,
    kinds.Fog: _fog,
    kinds.Cutout: _cutout,
    kinds.CutMix: _cutmix,
    kinds.MixUp: _mixup,
    kinds.CopyPaste: _copy_paste,
}

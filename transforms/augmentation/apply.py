"""Applying operations: a scene and what was drawn for it give the copy, and nothing else does."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from transforms.augmentation import colour, geometry, mixing
from transforms.augmentation.drawing import Operation, Partners, draw
from transforms.augmentation.draws import Draws
from transforms.augmentation.scene import Scene, blend_labels
from transforms.failures import Failure

_LOOKS: dict[str, Callable[..., Any]] = {
    "colour": colour.colour,
    "gamma": colour.gamma,
    "noise": colour.noise,
    "blur": colour.blur,
    "jpeg": colour.jpeg,
    "night": colour.night,
    "fog": colour.fog,
}
_MOVES: dict[str, Callable[..., Any]] = {
    "flip": geometry.flip,
    "quarter_turn": geometry.quarter_turn,
}
_UNCOVERS: dict[str, Callable[..., Any]] = {  # leave pixels of which nothing is known
    "rotate": geometry.rotate,
    "scale_crop": geometry.scale_crop,
    "elastic": geometry.elastic,
    "perspective": geometry.perspective,
    "cutout": mixing.cutout,
}


def make_copy(
    scene: Scene,
    steps: Sequence[Any],
    *,
    seed: int,
    copy: int,
    ignore_id: int,
    partners: Partners | None,
) -> tuple[Scene, list[Operation]]:
    """One copy of a scene, and the operations that made it.

    Args:
        steps: of the recipe.
        seed: of the recipe.
        copy: number of the copy, from 0.

    Raises:
        Failure: a step cannot be done to such a scene.
    """
    done: list[Operation] = []
    for number, step in enumerate(steps):
        draws = Draws(seed, scene.key, copy, number, step.step)
        chosen = _Chosen(partners)
        operation = draw(step, draws, scene, chosen)
        if operation is not None:
            scene = _applied(scene, operation, chosen.scene, ignore_id)
            done.append(operation)
    return scene, done


def _applied(scene: Scene, operation: Operation, other: Scene | None, ignore_id: int) -> Scene:
    """As `apply`; whatever libraries raise for an odd picture is its Failure."""
    try:
        return apply(scene, operation, other, ignore_id)
    except Exception as error:
        what = f"{operation['step']}: {type(error).__name__}: {error}"
        raise Failure("check", "step_failed", what) from error


class _Chosen:
    """Remembers the partner that a step has chosen."""

    def __init__(self, partners: Partners | None) -> None:
        self._partners = partners
        self.scene: Scene | None = None

    def choose(self, draws: Draws, index: int, classes: Sequence[int] = ()) -> Scene | None:
        if self._partners is not None:
            self.scene = self._partners.choose(draws, index, classes)
        return self.scene


def repeat_copy(
    scene: Scene,
    operations: Sequence[Operation],
    ignore_id: int,
    partner_of: Callable[[int], Scene],
) -> Scene:
    """The copy that some operations make; `partner_of` gives the scene of a record's index."""
    for operation in operations:
        partner = operation.get("partner")
        other = None if partner is None else partner_of(partner["index"])
        scene = apply(scene, operation, other, ignore_id)
    return scene


def apply(scene: Scene, operation: Operation, other: Scene | None, ignore_id: int) -> Scene:
    """A scene after one operation.

    Args:
        other: the partner that the operation names, if it names one.

    Raises:
        ValueError: there is no such operation.
    """
    numbers = {k: v for k, v in operation.items() if k not in ("step", "partner")}
    name, pixels, mask = operation["step"], scene.pixels, scene.mask
    labels = scene.labels
    if name in _LOOKS:
        pixels = _LOOKS[name](pixels, **numbers)
    elif name in _MOVES:
        pixels, mask = _MOVES[name](pixels, mask, **numbers)
    elif name in _UNCOVERS:
        pixels, mask = _UNCOVERS[name](pixels, mask, **numbers, ignore_id=ignore_id)
    elif other is None:
        raise ValueError(f"unknown operation {name!r}, or its partner is missing")
    elif name == "cutmix":
        pixels, mask, share = mixing.cutmix(scene, other, **numbers)
        labels = blend_labels(labels, other.labels, share)
    elif name == "mixup":
        pixels = mixing.mixup(scene, other, **numbers)
        labels = blend_labels(labels, other.labels, numbers["weight"])
    elif name == "copy_paste":
        pixels, mask = _paste_all(scene, other, **numbers)
    else:
        raise ValueError(f"unknown operation {name!r}")
    texts = scene.texts if other is None else {**other.texts, **scene.texts}
    made = dataclasses.replace(scene, pixels=pixels, mask=mask, labels=labels, texts=texts)
    return made if other is None else _of_both(made, other)


def _of_both(scene: Scene, other: Scene) -> Scene:
    """A scene that has parts of another one: what that came from, it came from too."""
    ancestors = tuple(sorted({*scene.ancestors, *other.ancestors}))
    generators = tuple(sorted({*scene.generators, *other.generators}))
    return dataclasses.replace(scene, ancestors=ancestors, generators=generators)


def _paste_all(scene: Scene, other: Scene, pastes: Sequence[Any]) -> tuple[Any, Any]:
    pixels, mask = scene.pixels, scene.mask
    assert mask is not None and other.mask is not None
    for each in pastes:
        instance = mixing.instance_at(other.mask, each["class_id"], *each["pixel"])
        pixels, mask = mixing.paste(
            pixels, mask, other, instance, top=each["top"], left=each["left"]
        )
    return pixels, mask

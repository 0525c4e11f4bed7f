"""Pictures by a model that translates pictures or masks, in place of a shard's own."""

import dataclasses
from collections.abc import Callable

import numpy as np

from models.classifier import Bound
from models.generator import Made, Translator, resized_ids
from transforms.augmentation.drawing import Operation
from transforms.augmentation.scene import Image, Scene
from transforms.failures import Failure
from transforms.records import Record
from transforms.replicas import Replicas
from transforms.staging import local_model
from transforms.survive import Model, Survivor
from transforms.translate import check_finite

TRANSLATE = "translate"


class SceneTranslator:
    """A model from pictures, or from masks, to pictures. Threads may share it.

    It is given one picture at a time, so that the bytes depend on no other picture.
    """

    def __init__(self, bound: Bound) -> None:
        """Loads the model, on every device. Raises ModelError."""
        self._bound = bound

        def load() -> Translator:
            return Translator(local_model(bound.path, bound.fingerprint), bound.binding)

        def survivor(load: Callable[[], Model[Made]]) -> Survivor[Image, Made]:
            return Survivor(load, lambda image: image, _size_text)

        self._model: Replicas[Image, Made] = Replicas(load, survivor)

    @property
    def operation(self) -> Operation:
        """What is told of a copy."""
        source = "mask" if self._bound.binding.takes_mask else "image"
        return {"step": TRANSLATE, "from": source}

    def __call__(self, scene: Scene) -> Scene:
        """The scene with the picture that the model makes of it, at the size that comes out.

        The mask is cut to what the model was shown, and resized to the picture by nearest
        neighbour; labels stay.

        Raises:
            Failure: the model fails on it, or is for masks and there is none of ids up to 255.
        """
        binding = self._bound.binding
        image = _of_mask(scene) if binding.takes_mask else scene.pixels
        ((_, made),) = self._model([(Record(scene.index, scene.key, ""), image)])
        if isinstance(made, Failure):
            raise made
        check_finite(made)
        pixels = made.pixels
        if pixels.ndim == 2:
            pixels = np.repeat(pixels[..., np.newaxis], 3, axis=2)
        mask = scene.mask
        if mask is not None:
            seen = binding.seen(scene.pixels.shape[:2])
            mask = resized_ids(seen.of(mask), pixels.shape[:2])
        generators = tuple(sorted({*scene.generators, self._bound.fingerprint}))
        return dataclasses.replace(scene, pixels=pixels, mask=mask, generators=generators)


def _of_mask(scene: Scene) -> Image:
    """The mask as the picture that such a model takes: uint8 [H, W, 3] of ids."""
    if scene.mask is None:
        raise Failure(
            "check",
            "mask_missing",
            "translate's model makes pictures of masks, and the picture has none; give it one, or "
            "give pseudo_label",
        )
    if (most := int(scene.mask.max())) > 255:
        raise Failure(
            "check",
            "id_range",
            f"the mask has the id {most}, expected 0 to 255 for translate's model",
        )
    return np.repeat(scene.mask.astype(np.uint8)[..., np.newaxis], 3, axis=2)


def _size_text(image: Image) -> str:
    height, width = image.shape[:2]
    return f"picture of {width}x{height}"

"""A bound classifier: uint8 pictures in, probabilities and features out.

    bind_classifier   signature and card  ->  how to call it: scores [N, C], features [N, D]
    bind_features     the same for a model of which only the features are wanted
    Classifier        runs it

Pictures are resized, scaled and laid out as for a segmenter, by the same card.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from models.answers import Image
from models.binding import Binding
from models.card import ModelCard
from models.errors import ModelError
from models.loading import first_line
from models.rules import bind
from models.segmenter import AroundSegmenter, Segmenter
from models.signatures import ModelInfo, SignatureInfo, TensorInfo

_FLOATS = ("float32", "float16", "bfloat16", "float64")
_FEATURE_NAMES = ("feature", "embed", "pool", "penultimate", "hidden", "bottleneck")
_PROBE_HW = (128, 128)  # for a model of free size
_SUM_TOLERANCE = 1e-2


@dataclasses.dataclass(frozen=True)
class Seen:
    """What a classifier sees in one picture.

    Attributes:
        probabilities: float64 [C], sum to 1; None of a model that is bound for features only.
        features: float32 [D].
    """

    probabilities: npt.NDArray[np.float64] | None
    features: npt.NDArray[np.float32]


def bind_classifier(info: ModelInfo, card: ModelCard) -> Binding:
    """How to call a classifier, as far as signature and card tell (see probe_classifier).

    Raises:
        ModelError: it takes no picture, or it is not clear which output holds the scores.
    """
    _check_kind(info, card, (None, "logits", "softmax"))
    binding = bind(info, card, _pick_scores)
    outputs = _vectors(_signature(info, binding))
    features = card.output.features
    if features is None:
        found = [t.name for t in outputs if _is_features(t) and t.name != binding.output_name]
        features = found[0] if len(found) == 1 else ""
    elif features not in {t.name for t in outputs}:
        raise ModelError(
            f"{info.path} has no output {features!r} of floats with a row for each picture; it "
            f"offers {', '.join(map(str, outputs))}"
        )
    return _of_picture(info, dataclasses.replace(binding, features_name=features))


def bind_features(info: ModelInfo, card: ModelCard) -> Binding:
    """The same for a model of which only pooled features are wanted. Raises ModelError."""
    _check_kind(info, card, (None,))
    return _of_picture(info, bind(info, card, _pick_features))


def probe_classifier(path: str, binding: Binding, wants_scores: bool = True) -> Binding:
    """Runs the model on one picture: kind and number of classes. Raises ModelError."""
    size_hw = binding.size_hw or _PROBE_HW
    noise = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), np.uint8)
    model = Segmenter(path, binding)
    try:
        batch, _ = model.prepared([noise])
        outputs = {name: array.numpy()[0] for name, array in model.outputs(batch).items()}
    except Exception as error:  # whatever a stranger's graph raises
        raise ModelError(
            f"{path} fails on a picture of {size_hw[0]}x{size_hw[1]}: {first_line(error)}. "
            "Check range, channels, layout and size of its input in the card"
        ) from error
    for name, row in outputs.items():
        if row.size != max(row.shape, default=0):
            raise ModelError(
                f"{path}: output {name!r} has shape {list(row.shape)} for one picture, expected "
                "one axis, pooled over the picture; name another in the card"
            )
        if not np.isfinite(row).all():
            raise ModelError(f"{path} answers NaN or infinity for a test picture; check its range")
    if not wants_scores:
        return binding
    scores = outputs[binding.output_name].ravel().astype(np.float64)
    if len(scores) < 2:
        raise ModelError(
            f"{path}: output {binding.output_name!r} has {len(scores)} score a picture, expected "
            "one for each class; a model of one class cannot tell which label a picture has"
        )
    sums = scores.min() >= 0 and abs(scores.sum() - 1) < _SUM_TOLERANCE
    if scores.min() >= 0 and scores.max() <= 1 and not sums and binding.kind is None:
        raise ModelError(
            f"{path} answers {len(scores)} values in [0, 1] that do not sum to 1: independent "
            "labels are not supported. If they are scores of one choice, say output.kind=logits"
        )
    if binding.classes and len(binding.classes) != len(scores):
        raise ModelError(
            f"{path} answers {len(scores)} classes, but its card names {len(binding.classes)}"
        )
    classes = binding.classes or tuple(f"class {i}" for i in range(len(scores)))
    kind = binding.kind or ("softmax" if sums else "logits")
    return dataclasses.replace(binding, kind=kind, classes=classes)


def is_standard_inception(info: ModelInfo, binding: Binding) -> bool:
    """Whether features are those of the graph that FID is defined by (Heusel et al. 2017): the
    2,048 of `pool_3` of Inception as of 2015, which takes 299x299 pixels."""
    outputs = {t.name: t for t in _signature(info, binding).outputs}
    output = outputs[binding.features_name or binding.output_name]
    width = output.shape[-1] if output.shape else None
    return "pool_3" in output.name and width == 2048 and binding.size_hw == (299, 299)


class Classifier(AroundSegmenter):
    """Runs one SavedModel. Load it once per process; threads may share it."""

    def __call__(self, images: Sequence[Image]) -> list[Seen]:
        """Looks at pictures, as many and of any sizes.

        Args:
            images: uint8 [H, W, 3] RGB or [H, W] grey each.

        Raises:
            ValueError, tf.errors.OpError: as Segmenter does.
        """
        colour = [np.stack([x] * 3, axis=-1) if x.ndim == 2 else x for x in images]
        with self._model.turn:
            return [seen for batch in self._batches(colour) for seen in self._see(batch)]

    def _batches(self, images: Sequence[Image]) -> Iterator[list[Image]]:
        """Neighbours that the model sees at one size, as many as a batch holds."""
        for _, group in groupby(images, lambda x: self.binding.model_size_hw(x.shape[:2])):
            same = list(group)
            for first in range(0, len(same), self.batch_size):
                yield same[first : first + self.batch_size]

    def _see(self, images: list[Image]) -> Iterator[Seen]:
        batch, _ = self._model.prepared(images)
        outputs = {
            name: array.numpy().reshape(len(images), -1)
            for name, array in self._model.outputs(batch).items()
        }
        scores = outputs[self.binding.output_name]
        features = outputs[self.binding.features_name or self.binding.output_name]
        for row in range(len(images)):
            yield Seen(self._probabilities(scores[row]), features[row].astype(np.float32))

    def _probabilities(self, scores: npt.NDArray[np.floating]) -> npt.NDArray[np.float64] | None:
        if self.binding.kind is None:
            return None
        values = scores.astype(np.float64)
        if self.binding.kind == "logits":
            return np.asarray(softmax(values))
        return np.asarray(np.clip(values, 0.0, 1.0) / max(values.sum(), 1e-12))


def _check_kind(info: ModelInfo, card: ModelCard, allowed: tuple[str | None, ...]) -> None:
    if card.output.kind not in allowed:
        raise ModelError(
            f"{info.path}: its card says output.kind {card.output.kind}, expected "
            f"{' or '.join(kind for kind in allowed if kind) or 'none'} of a model that looks at "
            "pictures as a whole"
        )


def _of_picture(info: ModelInfo, binding: Binding) -> Binding:
    if not binding.takes_picture:
        raise ModelError(f"{info.path} takes no picture, so it cannot look at any")
    return binding


def _signature(info: ModelInfo, binding: Binding) -> SignatureInfo:
    return next(s for s in info.signatures if s.name == binding.signature)


def _vectors(signature: SignatureInfo) -> list[TensorInfo]:
    """Outputs that may hold a row of numbers for each picture."""
    return [
        t
        for t in signature.outputs
        if t.dtype in _FLOATS and (t.shape is None or len(t.shape) == 2 or _is_pooled(t))
    ]


def _is_pooled(tensor: TensorInfo) -> bool:
    """[N, 1, 1, D] or [N, D, 1, 1], as some models leave it."""
    shape = tensor.shape or ()
    return len(shape) == 4 and (shape[1:3] == (1, 1) or shape[2:4] == (1, 1))


def _is_features(tensor: TensorInfo) -> bool:
    return any(word in tensor.name.lower() for word in _FEATURE_NAMES)


def _pick_scores(info: ModelInfo, signature: SignatureInfo, card: ModelCard) -> TensorInfo:
    """The output with a score for each class; a second one, of features, may be beside it."""
    offered = _vectors(signature)
    if card.output.name is None and len(offered) > 1:
        offered = [t for t in offered if not _is_features(t) and t.name != card.output.features]
    return _the_one(info, signature, card, offered, "scores of classes, [N, C]")


def _pick_features(info: ModelInfo, signature: SignatureInfo, card: ModelCard) -> TensorInfo:
    """The output that looks like features, or the only one."""
    offered = _vectors(signature)
    if card.output.name is None and any(map(_is_features, offered)):
        offered = [t for t in offered if _is_features(t)]
    return _the_one(info, signature, card, offered, "pooled features, [N, D]")


def _the_one(
    info: ModelInfo, signature: SignatureInfo, card: ModelCard, offered: list[TensorInfo], what: str
) -> TensorInfo:
    wanted = card.output.name
    chosen = offered if wanted is None else [t for t in offered if t.name == wanted]
    if len(chosen) != 1:
        found = f"no output {wanted!r}" if wanted else f"{len(chosen)} outputs"
        raise ModelError(
            f"{info.path}: {found} of signature {signature.name!r} could hold {what}, expected "
            f"one; name it as output.name in the model's card. It offers\n  {signature}"
        )
    return chosen[0]


class Judge:
    """A verifier, whose probabilities count, and a model of features, if they are two."""

    def __init__(self, verifier: "Bound | None", feature_model: "Bound | None", batch_size: int):
        """Loads the models; at least one is given. Raises ModelError."""
        bound = [found for found in (verifier, feature_model) if found is not None]
        self._models = [Classifier(found.path, found.binding, batch_size) for found in bound]

    def set_batch_size(self, size: int) -> None:
        """Of the models that take batches of any size."""
        for model in self._models:
            if model.binding.fixed_batch is None:
                model.batch_size = size

    def __call__(self, images: Sequence[Image]) -> list[Seen]:
        """As Classifier does: probabilities of the verifier, features of the feature model."""
        first, *others = (model(images) for model in self._models)
        if not others:
            return first
        return [
            Seen(seen.probabilities, features.features)
            for seen, features in zip(first, others[0], strict=True)
        ]


class Bound(NamedTuple):
    """Folder of a SavedModel, how to call it, and the fingerprint that it had when it was bound."""

    path: str
    binding: Binding
    fingerprint: str = ""

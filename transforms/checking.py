"""Checking pictures that were made: by a verifier, by its confidence, against known pictures."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import pyarrow as pa

from models.answers import Image
from models.binding import Binding
from models.classifier import Bound, Judge, Seen
from models.generator import Made
from transforms.attempts import Rejection
from transforms.guard import NEAR_BITS, Known, Marks, Twin
from transforms.staging import local_model
from transforms.sums import byte_histogram
from transforms.survive import Model

CHECK_COLUMNS = (
    pa.field("predicted", pa.int32()),
    pa.field("confidence", pa.float64()),
    pa.field("agrees", pa.bool_()),
    pa.field("digest", pa.string()),
    pa.field("phash", pa.string()),
    pa.field("copy_of", pa.string()),
    pa.field("copy_bits", pa.int32()),
)
DROPS = ("copies", "duplicates")


@dataclasses.dataclass(frozen=True)
class Checks:
    """What is looked at, and what costs a picture. Pickled to the workers.

    Attributes:
        verifier: predicts the label of every picture.
        feature_model: gives the features for distances; None for the verifier's.
        accept: "agree" takes a picture only when the predicted label is the asked one.
        min_confidence: takes it only when the predicted label has at least this probability.
        max_attempts: of one item.
        drop: "copies" of training images and "duplicates" within the shard are not taken.
        near_bits: perceptual hashes that differ in at most so many bits are of one picture.
        reference: whether OUT holds the fingerprints of training images.
    """

    verifier: Bound | None = None
    feature_model: Bound | None = None
    accept: Literal["all", "agree"] = "all"
    min_confidence: float = 0.0
    max_attempts: int = 1
    drop: tuple[str, ...] = ()
    near_bits: int = NEAR_BITS
    reference: bool = False

    @property
    def looks(self) -> bool:
        """Whether a model looks at the pictures."""
        return self.verifier is not None or self.feature_model is not None

    def rejection(self, label: int, picture: "Candidate") -> Rejection | None:
        """Why a picture is not taken for a label, shard-mates aside; None when it is."""
        if not picture.made.finite:
            return Rejection("not_finite", "the model answered NaN or infinity")
        if (why := self.disagreement(label, picture.seen)) is not None:
            return why
        if "copies" in self.drop and picture.copy is not None:
            return Rejection("copy", f"it is {_told(picture.copy)} of the training images")
        return None

    def disagreement(self, label: int, seen: Seen | None) -> Rejection | None:
        """Why the verifier's opinion is not enough; None when it is."""
        if seen is None or seen.probabilities is None:
            return None
        predicted = int(seen.probabilities.argmax())
        confidence = float(seen.probabilities[predicted])
        classes = self.verifier.binding.classes if self.verifier else ()
        opinion = f"the verifier sees {classes[predicted]} at {confidence:.1%}"
        if self.accept == "agree" and predicted != label:
            asked = classes[label] if 0 <= label < len(classes) else "no class that it knows"
            return Rejection("disagrees", f"{opinion}, asked for was {asked}")
        if confidence < self.min_confidence:
            return Rejection("unsure", f"{opinion}, below {self.min_confidence:.1%}")
        return None

    def repetition(self, picture: "Candidate", taken: Known) -> Rejection | None:
        """Why a picture is not taken beside those of the shard that were."""
        if "duplicates" not in self.drop:
            return None
        if (twin := taken.twin(picture.marks)) is None:
            return None
        return Rejection("duplicate", f"it is {_told(twin)} of the shard")


@dataclasses.dataclass
class Candidate:
    """A picture that was made, and all that is known of it.

    Attributes:
        made: the picture.
        seen: what the models saw in it; None without any.
        marks: its fingerprints.
        copy: the training image that it equals.
        twin: an earlier picture of the shard that it equals; known when it is taken.
    """

    made: Made
    seen: Seen | None
    marks: Marks
    copy: Twin | None = None
    twin: Twin | None = None


class Checked:
    """A model that makes pictures, and the models that look at them, as one."""

    def __init__(self, model: Model[Made], checks: Checks) -> None:
        """Loads the models that look. Raises ModelError."""
        self._model = model
        self._judge: Judge | None = None
        if checks.looks:
            verifier, features = _staged(checks.verifier), _staged(checks.feature_model)
            self._judge = Judge(verifier, features, model.batch_size)
        self.binding: Binding = model.binding

    @property
    def batch_size(self) -> int:
        """Pictures in a full batch."""
        return self._model.batch_size

    @batch_size.setter
    def batch_size(self, size: int) -> None:
        self._model.batch_size = size
        if self._judge is not None:
            self._judge.set_batch_size(size)

    def __call__(self, values: Sequence[Any]) -> list[tuple[Made, Seen | None]]:
        """Makes pictures and looks at them. Raises what the models do."""
        made = list(self._model(values))
        if self._judge is None:
            return [(picture, None) for picture in made]
        return list(zip(made, self._judge([m.pixels for m in made]), strict=True))


def _staged(bound: Bound | None) -> Bound | None:
    """The same on this machine's disk. Raises ModelError."""
    if bound is None:
        return None
    return bound._replace(path=local_model(bound.path, bound.fingerprint))


class Untouched:
    """A model that makes nothing of pictures, where they are to be looked at as they are."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.binding = Binding(
            signature="",
            tags=None,
            input_name="image",
            input_dtype="uint8",
            input_layout="NHWC",
            channels="RGB",
            value_range=(0.0, 255.0),
            mean=None,
            std=None,
            size_hw=None,
            max_side_px=None,
            fixed_batch=None,
            output_name="image",
            kind="image",
            output_layout="NHWC",
            threshold=0.5,
            classes=(),
            colors=(),
        )

    def __call__(self, values: Sequence[Image]) -> list[Made]:
        return [Made(pixels, True, 0.0) for pixels in values]


def seen_row(label: int, seen: Seen | None) -> dict[str, Any]:
    """Columns of the records file: what the verifier says."""
    if seen is None or seen.probabilities is None:
        return {}
    predicted = int(seen.probabilities.argmax())
    return {
        "predicted": predicted,
        "confidence": float(seen.probabilities[predicted]),
        "agrees": None if label < 0 else predicted == label,
    }


def seen_sums(label: int, seen: Seen | None) -> dict[str, Any]:
    """What the verifier's opinion adds to the metrics: asked x predicted, and its confidence."""
    row = seen_row(label, seen)
    if not row:
        return {}
    sums: dict[str, Any] = {"verifier_confidence": byte_histogram(round(255 * row["confidence"]))}
    if label >= 0:
        sums["confusion"] = {str(label): {str(row["predicted"]): 1}}
    return sums


def _told(twin: Twin) -> str:
    if twin.exact:
        return f"the picture {twin.name}"
    return f"within {twin.bits} of 64 bits of the picture {twin.name}"

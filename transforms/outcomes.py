"""What becomes of a picture that was made: its file, its row, its features, its sums."""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from models.loading import import_tensorflow
from transforms.attempts import Asked, Settled
from transforms.checking import Candidate, seen_row, seen_sums
from transforms.failures import Failure
from transforms.items import NO_LABEL
from transforms.observed import RejectedPicture
from transforms.picture_files import PictureFormat, encode_picture
from transforms.records import Encoded, Record, Result
from transforms.sums import byte_histogram

tf = import_tensorflow()

PREDICTED, CONFIDENCE = "image/generated/label_predicted", "image/generated/confidence"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A settled item, ready to be written, and what it adds to its shard."""

    record: Record
    label: int
    result: Result | Failure
    rejected: list[RejectedPicture]
    sums: dict[str, Any]


def encode_settled(item: Settled[Candidate], how: PictureFormat) -> Outcome:
    """Encodes what became of an item: its picture, and those of rejected attempts."""
    rejected = [
        RejectedPicture(
            f"{item.record.key}~{old.asked.attempt}",
            old.asked,
            Encoded(encode_picture(old.picture.made.pixels, how), how.name),
            old.why,
            seen_row(old.asked.label, old.picture.seen),
        )
        for old in item.rejected[:1]
        if old.picture.made.finite
    ]
    assert item.answer is not None, "only settled items are encoded"
    sums = attempt_sums(item)
    if isinstance(item.answer, Failure):
        return Outcome(item.record, item.asked.label, item.answer, rejected, sums)
    features = _checked_features(item.record.features, item.asked, item.answer)
    record = dataclasses.replace(item.record, features=features)
    result = encode_candidate(item.asked, item.answer, how)
    return Outcome(record, item.asked.label, result, rejected, sums)


def attempt_sums(item: Settled[Candidate]) -> dict[str, Any]:
    """What an item adds to the metrics, taken or not: attempts, and what was said of the first."""
    attempts = len(item.rejected) + (not _was_rejected_last(item))
    sums: dict[str, Any] = {"attempts_needed": {str(attempts): 1}}
    reasons: dict[str, int] = {}
    for old in item.rejected:
        reasons[old.why.reason] = reasons.get(old.why.reason, 0) + 1
    label = str(item.asked.label)
    if item.asked.label != NO_LABEL:
        sums["asked"] = {label: 1}
        sums["attempts"] = {label: attempts}
    if reasons:
        sums["rejected"] = {label: reasons}
    first = item.rejected[0].picture if item.rejected else item.answer
    if isinstance(first, Candidate):
        seen = seen_sums(item.asked.label, first.seen)
        sums |= {f"first_{name}": value for name, value in seen.items()}
        if first.copy is not None:
            sums["first_copies"] = {first.copy.kind: 1}
    return sums


def _was_rejected_last(item: Settled[Candidate]) -> bool:
    """Whether it failed because of its last attempt, and not because the model did."""
    return isinstance(item.answer, Failure) and item.answer.reason in ("rejected", "not_finite")


def encode_candidate(asked: Asked, picture: Candidate, how: PictureFormat) -> Result:
    """Encodes a picture that was taken and says all that is known of it."""
    encoded = Encoded(encode_picture(picture.made.pixels, how), how.name)
    row, sums = measured(picture, encoded)
    row |= {
        **seen_row(asked.label, picture.seen),
        "label": None if asked.label == NO_LABEL else asked.label,
        "item": asked.number,
        "attempt": asked.attempt,
        "duplicate_of": None if picture.twin is None else picture.twin.name,
    }
    sums |= seen_sums(asked.label, picture.seen)
    if asked.label != NO_LABEL:
        sums["labels"] = {str(asked.label): 1}
    return Result({"images": encoded}, row, sums, row.get("confidence"), picture)


def measured(picture: Candidate, encoded: Encoded) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the records file says of a picture that was made, and what it adds to the metrics."""
    made, copy = picture.made, picture.copy
    (height, width), colours = made.pixels.shape[:2], colour_numbers(made.pixels)
    row = {
        "width": width,
        "height": height,
        "format": encoded.format,
        "image_bytes": len(encoded.data),
        "clipped": made.clipped,
        "copy_of": None if copy is None else copy.name,
        "copy_bits": None if copy is None else copy.bits,
        **colours,
        **picture.marks.row(),
    }
    sums: dict[str, Any] = {
        "pixels": height * width,
        "widths": {str(width): 1},
        "heights": {str(height): 1},
        "formats": {encoded.format.upper(): 1},
        "clipped_images": int(made.clipped > 0.01),
        **{name: byte_histogram(value) for name, value in colours.items()},
    }
    if copy is not None:
        sums["copies"] = {copy.kind: 1}
    return row, sums


def colour_numbers(pixels: npt.NDArray[np.uint8]) -> dict[str, float]:
    """Mean brightness and mean saturation (of HSV) of a picture, each 0 to 255."""
    saturation = 0.0
    if pixels.ndim == 3:
        highest = pixels.max(axis=-1).astype(np.float64)
        spread = highest - pixels.min(axis=-1)
        saturation = float((255.0 * spread / np.maximum(highest, 1.0)).mean())
    return {"brightness": float(pixels.mean()), "saturation": saturation}


def _checked_features(serialized: bytes, asked: Asked, picture: Candidate) -> bytes:
    example = tf.train.Example.FromString(serialized)
    describe_picture(example, asked.label, picture)
    attempt = example.features.feature["image/generated/attempt"]
    attempt.int64_list.value.append(asked.attempt)
    return bytes(example.SerializeToString(deterministic=True))


def describe_picture(example: Any, label: int, picture: Candidate) -> None:
    """Notes in a tf.Example the size of its picture, and what the verifier says of it."""
    features = example.features.feature
    row = seen_row(label, picture.seen)
    numbers = dict(zip(("image/height", "image/width"), picture.made.pixels.shape[:2], strict=True))
    for name in (PREDICTED, CONFIDENCE):  # of an earlier run
        features.pop(name, None)
    if row:
        numbers[PREDICTED] = row["predicted"]
        features[CONFIDENCE].float_list.value.append(row["confidence"])
    for name, number in numbers.items():
        features[name].ClearField("kind")
        features[name].int64_list.value.append(number)

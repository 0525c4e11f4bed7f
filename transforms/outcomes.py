"""What becomes of a picture that was made: its file, its row, its features, its sums."""

import dataclasses
from typing import Any

from models.loading import import_tensorflow
from transforms.attempts import Asked, Settled
from transforms.checking import Candidate, colour_numbers, histogram_sums, seen_row, seen_sums
from transforms.failures import Failure
from transforms.items import NO_LABEL
from transforms.observed import RejectedPicture
from transforms.picture_files import PictureFormat, encode_picture
from transforms.records import Encoded, Record, Result

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
    row = picture_row(picture, encoded) | {
        **seen_row(asked.label, picture.seen),
        "label": None if asked.label == NO_LABEL else asked.label,
        "item": asked.number,
        "attempt": asked.attempt,
        "duplicate_of": None if picture.twin is None else picture.twin.name,
    }
    sums = picture_sums(picture, how) | seen_sums(asked.label, picture.seen)
    if asked.label != NO_LABEL:
        sums["labels"] = {str(asked.label): 1}
    return Result({"images": encoded}, row, sums, row.get("confidence"), picture)


def picture_row(picture: Candidate, encoded: Encoded) -> dict[str, Any]:
    """What the records file says of a picture that was made."""
    made, copy = picture.made, picture.copy
    return {
        "width": made.pixels.shape[1],
        "height": made.pixels.shape[0],
        "format": encoded.format,
        "image_bytes": len(encoded.data),
        "clipped": made.clipped,
        "copy_of": None if copy is None else copy.name,
        "copy_bits": None if copy is None else copy.bits,
        **colour_numbers(made.pixels),
        **picture.marks.row(),
    }


def picture_sums(picture: Candidate, how: PictureFormat) -> dict[str, Any]:
    """What a picture that was made adds to the metrics."""
    height, width = picture.made.pixels.shape[:2]
    sums: dict[str, Any] = {
        "pixels": height * width,
        "widths": {str(width): 1},
        "heights": {str(height): 1},
        "formats": {how.name.upper(): 1},
        "clipped_images": int(picture.made.clipped > 0.01),
        **histogram_sums(colour_numbers(picture.made.pixels)),
    }
    if picture.copy is not None:
        sums["copies"] = {picture.copy.kind: 1}
    return sums


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

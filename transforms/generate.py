"""Generating: the operator that makes pictures of noise and labels, shard by shard."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa

from models.binding import Binding
from models.classifier import Seen
from models.devices import DeviceOptions, configure
from models.generator import Generator, Made
from models.latents import draw
from models.loading import import_tensorflow
from transforms.attempts import Asked, Rejection, Settled, until_accepted
from transforms.checking import (
    CHECK_COLUMNS,
    Candidate,
    Checked,
    Checks,
    colour_numbers,
    histogram_sums,
    seen_row,
    seen_sums,
)
from transforms.clock import Clock
from transforms.failures import Failure
from transforms.guard import Known, Marks, Reference
from transforms.inputs import Shard
from transforms.items import NO_LABEL, item_labels
from transforms.observed import RejectedPicture, ShardObserver
from transforms.picture_files import PictureFormat, encode_picture
from transforms.records import Encoded, Record, Result, WorkStream
from transforms.replicas import Replicas
from transforms.shard_work import Work
from transforms.sink import Sink
from transforms.staging import local_model
from transforms.streams import in_thread, ordered_map
from transforms.survive import TIMEOUT_S, Model, Survivor

tf = import_tensorflow()

COLUMNS = pa.schema(
    [
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("format", pa.string()),
        pa.field("image_bytes", pa.int64()),
        pa.field("brightness", pa.float64()),
        pa.field("saturation", pa.float64()),
        pa.field("clipped", pa.float64()),
        pa.field("label", pa.int32()),
        pa.field("item", pa.int64()),
        pa.field("attempt", pa.int32()),
        *CHECK_COLUMNS,
        pa.field("duplicate_of", pa.string()),
    ]
)
PREDICTED, CONFIDENCE = "image/generated/label_predicted", "image/generated/confidence"
_AHEAD_ITEMS = 64
_OPEN_ROUNDS = 4  # of the model, in which items may be open while one of them is drawn again


@dataclasses.dataclass(frozen=True)
class GenerateOperator:
    """Settings of a generation; all of it is pickled to the workers.

    Attributes:
        model: folder of the SavedModel.
        binding: how to call it, probed.
        sink: of kind "images", with COLUMNS.
        batch_size: pictures that are made at once.
        seed: of the run. With the number of an item it decides that item's random numbers.
        fingerprint: of the model, noted with every picture.
        format: how pictures are written.
        threads: that encode; 0 for one a core.
        batch_timeout_s: for one call of the model; 0 to wait for ever.
        devices: settings of the accelerators.
        checks: what pictures must pass.
    """

    model: str
    binding: Binding
    sink: Sink
    batch_size: int
    seed: int
    fingerprint: str
    format: PictureFormat = PictureFormat()
    threads: int = 0
    batch_timeout_s: float = TIMEOUT_S
    devices: DeviceOptions = DeviceOptions()
    checks: Checks = Checks()

    def open(self) -> Work:
        """Loads the model. Raises ModelError."""
        configure(self.devices)
        return _GenerateWork(self)


class _GenerateWork:
    """The work of one process: models and the threads that encode."""

    def __init__(self, settings: GenerateOperator) -> None:
        self._settings = settings
        self._checks = settings.checks
        self._model: Replicas[Asked, tuple[Made, Seen | None]] = Replicas(
            self._load, self._survivor
        )
        self._batch_size = self._model.batch_size
        self._training = None
        if settings.checks.reference:
            self._training = Known(settings.checks.near_bits, Reference.load(settings.sink.root))
        self._pool = ThreadPoolExecutor(settings.threads or os.cpu_count() or 1, "codec")
        self._rounds = ThreadPoolExecutor(1, "rounds")

    def _load(self) -> Checked:
        settings = self._settings
        model = local_model(settings.model, settings.fingerprint)
        generator = Generator(model, settings.binding, settings.batch_size)
        return Checked(generator, self._checks)

    def _survivor(
        self, load: Callable[[], Model[tuple[Made, Seen | None]]]
    ) -> Survivor[Asked, tuple[Made, Seen | None]]:
        settings = self._settings
        return Survivor(
            load,
            lambda asked: draw(
                settings.binding,
                settings.seed,
                asked.number,
                asked.attempt,
                None if asked.label == NO_LABEL else asked.label,
            ),
            lambda asked: f"item {asked.number}",
            settings.batch_timeout_s,
        )

    def __call__(self, shard: Shard, clock: Clock) -> WorkStream:
        ahead = max(_AHEAD_ITEMS, 2 * self._batch_size)
        observer = ShardObserver(shard.name, self._settings.binding.labels)

        def encode(item: Settled[Candidate]) -> _Encoded:
            with clock("encode"):
                return encode_settled(item, self._settings)

        settled = in_thread(self._rounds, self._settle(shard, clock), ahead=2)
        for done in ordered_map(self._pool, encode, settled, lambda: ahead):
            observer.add_sums(done.sums)
            for rejected in done.rejected:
                observer.add_rejected(rejected)
            if isinstance(done.result, Result) and done.result.picture is not None:
                key = done.record.key  # unique in the run: it holds the item's number
                observer.add(key, done.record.index, done.label, done.result.picture.seen)
            yield done.record, done.result
        yield observer.extras()

    def _settle(self, shard: Shard, clock: Clock) -> Iterator[Settled[Candidate]]:
        """The items of a shard, each with its picture or why there is none."""
        taken = Known(self._checks.near_bits)
        a_round = self._batch_size * self._model.copies

        def make(batch: Sequence[tuple[Record, Asked]]) -> list[Candidate | Failure]:
            with clock("model"):
                answers = [answer for _, answer in self._model(batch)]
            with clock("check"):
                return [a if isinstance(a, Failure) else self._candidate(*a) for a in answers]

        def make_all(items: Sequence[tuple[Record, Asked]]) -> list[Candidate | Failure]:
            """A batch for every copy of the model at once."""
            firsts = range(0, len(items), self._batch_size)
            batches = (items[first : first + self._batch_size] for first in firsts)
            found = ordered_map(self._model.pool, make, batches, self._model.ahead)
            return [picture for pictures in found for picture in pictures]

        def judge(asked: Asked, picture: Candidate) -> Rejection | None:
            rejection = self._checks.rejection(asked.label, picture)
            return rejection or self._checks.repetition(picture, taken)

        def take(record: Record, picture: Candidate) -> None:
            picture.twin = taken.twin(picture.marks)
            taken.add(record.key, picture.marks)

        return until_accepted(
            item_records(shard, self._settings),
            make_all,
            judge,
            take,
            max_attempts=self._checks.max_attempts,
            batch_size=a_round,
            window=max(_AHEAD_ITEMS, _OPEN_ROUNDS * a_round),
        )

    def _candidate(self, made: Made, seen: Seen | None) -> Candidate:
        marks = Marks.of(made.pixels)
        copy = None if self._training is None else self._training.twin(marks)
        return Candidate(made, seen, marks, copy)


def item_records(shard: Shard, settings: GenerateOperator) -> Iterator[tuple[Record, Asked]]:
    """The records of a shard that is to be made, in order."""
    if shard.items is None:
        raise ValueError(f"shard {shard.name} has no items")
    for index, (number, label) in enumerate(item_labels(shard.items)):
        name = settings.binding.classes[label] if label != NO_LABEL else ""
        key = f"{_folder(label, name)}/{number:08d}" if name else f"{number:08d}"
        yield (
            Record(
                index=index,
                key=key,
                source=f"item {number}",
                features=_features(settings, number, label, name),
                output_name=key,
            ),
            Asked(number, label),
        )


@dataclasses.dataclass(frozen=True)
class _Encoded:
    """A settled item, ready to be written, and what it adds to its shard."""

    record: Record
    label: int
    result: Result | Failure
    rejected: list[RejectedPicture]
    sums: dict[str, Any]


def encode_settled(item: Settled[Candidate], settings: GenerateOperator) -> _Encoded:
    """Encodes what became of an item: its picture, and those of rejected attempts."""
    rejected = [
        RejectedPicture(
            f"{item.record.key}~{old.asked.attempt}",
            old.asked,
            Encoded(encode_picture(old.picture.made.pixels, settings.format), settings.format.name),
            old.why,
            seen_row(old.asked.label, old.picture.seen),
        )
        for old in item.rejected[:1]
        if old.picture.made.finite
    ]
    assert item.answer is not None, "only settled items are encoded"
    sums = attempt_sums(item)
    if isinstance(item.answer, Failure):
        return _Encoded(item.record, item.asked.label, item.answer, rejected, sums)
    features = _checked_features(item.record.features, item.asked, item.answer)
    record = dataclasses.replace(item.record, features=features)
    result = encode_candidate(item.asked, item.answer, settings.format)
    return _Encoded(record, item.asked.label, result, rejected, sums)


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


def _folder(label: int, name: str) -> str:
    """A folder for a class, as training tools read them; a class's name is a stranger's text."""
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)[:60]
    return safe if safe.strip("._") else f"class_{label}"


def _features(settings: GenerateOperator, number: int, label: int, name: str) -> bytes:
    example = tf.train.Example()
    features = example.features.feature
    features["image/generated/seed"].int64_list.value.append(settings.seed)
    features["image/generated/item"].int64_list.value.append(number)
    features["image/generated/model"].bytes_list.value.append(settings.fingerprint.encode())
    if label != NO_LABEL:
        features["image/class/label"].int64_list.value.append(label)
        features["image/class/text"].bytes_list.value.append(name.encode())
        features["image/generated/label_asked"].int64_list.value.append(label)
    return bytes(example.SerializeToString(deterministic=True))


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

"""Generating: the operator that makes pictures of noise and labels, shard by shard."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

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
)
from transforms.clock import Clock
from transforms.failures import Failure
from transforms.guard import Known, Marks, Reference
from transforms.inputs import Shard
from transforms.items import NO_LABEL, item_labels
from transforms.observed import ShardObserver
from transforms.outcomes import Outcome, encode_settled
from transforms.picture_files import PictureFormat
from transforms.records import Record, Result, WorkStream
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

        def encode(item: Settled[Candidate]) -> Outcome:
            with clock("encode"):
                return encode_settled(item, self._settings.format)

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
        a_round = self._batch_size * self._model.at_once

        def make(batch: Sequence[tuple[Record, Asked]]) -> list[Candidate | Failure]:
            with clock.model(len(batch)):
                answers = [answer for _, answer in self._model(batch)]
            with clock("check"):
                return [a if isinstance(a, Failure) else self._candidate(*a) for a in answers]

        def make_all(items: Sequence[tuple[Record, Asked]]) -> list[Candidate | Failure]:
            """As many batches as there are calls at once."""
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

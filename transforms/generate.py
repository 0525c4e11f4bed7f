"""Generating: the operator that makes pictures of noise and labels, shard by shard."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa

from models.binding import Binding
from models.devices import DeviceOptions, configure
from models.generator import Generator, Made
from models.latents import draw
from models.loading import import_tensorflow
from transforms.clock import Clock
from transforms.failures import Failure
from transforms.inputs import Shard
from transforms.items import NO_LABEL, item_labels
from transforms.picture_files import PictureFormat, encode_picture
from transforms.records import Encoded, Item, Record, Result, Stream
from transforms.replicas import Replicas
from transforms.shard_work import Work
from transforms.sink import Sink
from transforms.staging import local_model
from transforms.streams import attempt, ordered_map
from transforms.survive import TIMEOUT_S, Model, Survivor

tf = import_tensorflow()

COLUMNS = pa.schema(
    [
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("format", pa.string()),
        pa.field("image_bytes", pa.int64()),
        pa.field("brightness", pa.float64()),
        pa.field("clipped", pa.float64()),
        pa.field("label", pa.int32()),
        pa.field("item", pa.int64()),
        pa.field("attempt", pa.int32()),
    ]
)
_AHEAD_ITEMS = 64


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

    def open(self) -> Work:
        """Loads the model. Raises ModelError."""
        configure(self.devices)
        return _GenerateWork(self)


@dataclasses.dataclass(frozen=True)
class _Asked:
    """One item: its number in the run, its label, and how often it was tried before."""

    number: int
    label: int
    attempt: int = 0


class _GenerateWork:
    """The work of one process: a model and the threads that encode."""

    def __init__(self, settings: GenerateOperator) -> None:
        self._settings = settings
        model = local_model(settings.model, settings.fingerprint)
        self._model: Replicas[_Asked, Made] = Replicas(
            lambda: Generator(model, settings.binding, settings.batch_size),
            self._survivor,
        )
        self._batch_size = self._model.batch_size
        self._pool = ThreadPoolExecutor(settings.threads or os.cpu_count() or 1, "codec")

    def _survivor(self, load: Callable[[], Model[Made]]) -> Survivor[_Asked, Made]:
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

    def __call__(self, shard: Shard, clock: Clock) -> Stream[Result]:
        ahead = max(_AHEAD_ITEMS, 2 * self._batch_size)

        def make(batch: list[Item[_Asked]]) -> list[Item[tuple[_Asked, Made]]]:
            with clock("model"):
                return _beside(batch, self._model(batch))

        def encode(made: tuple[_Asked, Made]) -> Result:
            with clock("encode"):
                return encode_made(*made, self._settings.format)

        batches = _batches(item_records(shard, self._settings), self._batch_size)
        made = ordered_map(self._model.pool, make, batches, self._model.ahead)
        flat = (item for batch in made for item in batch)
        return ordered_map(self._pool, attempt(encode), flat, lambda: ahead)


def item_records(shard: Shard, settings: GenerateOperator) -> Iterator[Item[_Asked]]:
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
            _Asked(number, label),
        )


def _beside(
    asked: Sequence[Item[_Asked]], made: Sequence[Item[Made]]
) -> list[Item[tuple[_Asked, Made]]]:
    """Each picture beside what was asked for."""
    return [
        (record, answer if isinstance(answer, Failure) else (want, answer))
        for (record, want), (_, answer) in zip(asked, made, strict=True)
        if not isinstance(want, Failure)  # there are none: items are not read
    ]


def check_finite(made: Made) -> None:
    """Raises a Failure when the model's numbers are no picture."""
    if not made.finite:
        raise Failure("model", "not_finite", "the model answered NaN or infinity; check its card")


def encode_made(asked: _Asked, made: Made, how: PictureFormat) -> Result:
    """Encodes a picture and measures it. Raises a Failure when it is not finite."""
    check_finite(made)
    picture = Encoded(encode_picture(made.pixels, how), how.name)
    label = None if asked.label == NO_LABEL else asked.label
    row = picture_row(made, picture) | {
        "label": label,
        "item": asked.number,
        "attempt": asked.attempt,
    }
    sums = picture_sums(made, how)
    if label is not None:
        sums["labels"] = {str(label): 1}
    return Result(outputs={"images": picture}, row=row, sums=sums)


def picture_row(made: Made, picture: Encoded) -> dict[str, Any]:
    """What the records file says of a picture that was made."""
    return {
        "width": made.pixels.shape[1],
        "height": made.pixels.shape[0],
        "format": picture.format,
        "image_bytes": len(picture.data),
        "brightness": float(made.pixels.mean()),
        "clipped": made.clipped,
    }


def picture_sums(made: Made, how: PictureFormat) -> dict[str, Any]:
    """What a picture that was made adds to the metrics."""
    height, width = made.pixels.shape[:2]
    brightness = np.zeros(256, np.int64)
    brightness[min(255, int(made.pixels.mean()))] = 1
    return {
        "pixels": height * width,
        "brightness": brightness,
        "widths": {str(width): 1},
        "heights": {str(height): 1},
        "formats": {how.name.upper(): 1},
        "clipped_images": int(made.clipped > 0.01),
    }


def _batches(items: Iterator[Item[_Asked]], size: int) -> Iterator[list[Item[_Asked]]]:
    batch: list[Item[_Asked]] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _folder(label: int, name: str) -> str:
    """A folder for a class, as training tools read them; a class's name is a stranger's text."""
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)[:60]
    return safe if safe.strip("._") else f"class_{label}"


def _features(settings: GenerateOperator, number: int, label: int, name: str) -> bytes:
    example = tf.train.Example()
    features = example.features.feature
    features["image/generated/seed"].int64_list.value.append(settings.seed)
    features["image/generated/item"].int64_list.value.append(number)
    features["image/generated/attempt"].int64_list.value.append(0)
    features["image/generated/model"].bytes_list.value.append(settings.fingerprint.encode())
    if label != NO_LABEL:
        features["image/class/label"].int64_list.value.append(label)
        features["image/class/text"].bytes_list.value.append(name.encode())
    return bytes(example.SerializeToString(deterministic=True))

"""Translating: the operator that makes pictures of pictures, such as larger or cleaner ones."""

import dataclasses
from collections.abc import Callable

import pyarrow as pa

from models.binding import Binding
from models.classifier import Seen
from models.devices import DeviceOptions, configure
from models.generator import Made, Translator
from models.loading import import_tensorflow
from transforms.attempts import Asked, failure_of
from transforms.checking import CHECK_COLUMNS, Candidate, Checked, Checks, seen_row, seen_sums
from transforms.clock import Clock
from transforms.decode import DecodePolicy, Facts
from transforms.failures import Failure
from transforms.feature_names import FeatureNames
from transforms.guard import Known, Marks, Reference
from transforms.inputs import Shard
from transforms.items import NO_LABEL
from transforms.observed import RejectedPicture, ShardObserver
from transforms.outcomes import describe_picture, measured
from transforms.picture_files import CHANGED, PictureFormat, encode_picture
from transforms.picture_work import PictureWork, Settings
from transforms.png import encode_png
from transforms.records import Encoded, Record, Result, Stream, WorkStream
from transforms.shard_work import Work
from transforms.sink import Sink
from transforms.staging import local_model
from transforms.survive import TIMEOUT_S
from transforms.tiling.picture_mosaic import PictureMosaic
from transforms.tiling.tiled_work import TiledWork
from transforms.tiling.windows import Tiling

tf = import_tensorflow()

LABEL = "image/class/label"
COLUMNS = pa.schema(
    [
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("source_width", pa.int32()),
        pa.field("source_height", pa.int32()),
        pa.field("format", pa.string()),
        pa.field("image_bytes", pa.int64()),
        pa.field("brightness", pa.float64()),
        pa.field("saturation", pa.float64()),
        pa.field("source_brightness", pa.float64()),
        pa.field("clipped", pa.float64()),
        pa.field("label", pa.int32()),
        *CHECK_COLUMNS,
        pa.field("duplicate_of", pa.string()),
    ]
)


@dataclasses.dataclass(frozen=True)
class TranslateOperator:
    """Settings of a translation; all of it is pickled to the workers.

    Attributes:
        model: folder of the SavedModel.
        binding: how to call it, probed.
        sink: of kind "images", with COLUMNS.
        batch_size: pictures that the model gets at once.
        fingerprint: of the model, checked where it is fetched from elsewhere.
        policy: how pictures are decoded.
        features: names in the tf.Examples.
        format: how pictures are written.
        threads: that decode and encode; 0 for one a core.
        batch_timeout_s: for one call of the model; 0 to wait for ever.
        devices: settings of the accelerators.
        checks: what pictures must pass; without models that look at them where there are windows.
        tiling: how pictures are cut into windows; None to show them whole.
    """

    model: str
    binding: Binding
    sink: Sink
    batch_size: int
    fingerprint: str = ""
    policy: DecodePolicy = DecodePolicy()
    features: FeatureNames = FeatureNames()
    format: PictureFormat = PictureFormat(source=CHANGED)
    threads: int = 0
    batch_timeout_s: float = TIMEOUT_S
    devices: DeviceOptions = DeviceOptions()
    checks: Checks = Checks()
    tiling: Tiling | None = None

    def open(self) -> Work:
        """Loads the models. Raises ModelError."""
        configure(self.devices)
        return _TranslateWork(self)


class _TranslateWork:
    """The work of one process: pictures are made, then looked at in their order."""

    def __init__(self, settings: TranslateOperator) -> None:
        self._settings = settings
        self._checks = settings.checks
        self._training = None
        if settings.checks.reference:
            self._training = Known(settings.checks.near_bits, Reference.load(settings.sink.root))
        how = Settings(
            settings.policy, settings.features, settings.threads, settings.batch_timeout_s
        )
        self._work: Callable[[Shard, Clock], Stream[Result]]
        if settings.tiling is None:
            self._work = PictureWork(how, self._load, self._encode)
        else:
            self._work = TiledWork(
                how,
                settings.tiling,
                self._load_translator,
                lambda grid, _: PictureMosaic(
                    grid, lambda facts, made: self._encode(facts, (made, None))
                ),
            )

    def _load(self) -> Checked:
        return Checked(self._load_translator(), self._checks)

    def _load_translator(self) -> Translator:
        settings = self._settings
        model = local_model(settings.model, settings.fingerprint)
        return Translator(model, settings.binding, settings.batch_size)

    def _encode(self, facts: Facts, answer: tuple[Made, Seen | None]) -> Result:
        made, seen = answer
        check_finite(made)
        marks = Marks.of(made.pixels)
        copy = None if self._training is None else self._training.twin(marks)
        return encode_translated(facts, Candidate(made, seen, marks, copy), self._settings.format)

    def __call__(self, shard: Shard, clock: Clock) -> WorkStream:
        verifier = self._checks.verifier
        observer = ShardObserver(shard.name, len(verifier.binding.classes) if verifier else 0)
        taken = Known(self._checks.near_bits)
        for record, result in self._work(shard, clock):
            if isinstance(result, Failure) or result.picture is None:
                yield record, result
                continue
            label = label_of(record.features)
            picture, asked = result.picture, Asked(record.index, label)
            why = self._checks.rejection(label, picture)
            if (why := why or self._checks.repetition(picture, taken)) is not None:
                row = seen_row(label, picture.seen)
                shown = result.outputs["images"]
                observer.add_rejected(RejectedPicture(record.key, asked, shown, why, row))
                yield record, failure_of([why])
                continue
            picture.twin = taken.twin(picture.marks)
            taken.add(record.key, picture.marks)
            observer.add(f"{shard.name}\0{record.key}", record.index, label, picture.seen)
            in_tree = self._settings.sink.as_files and record.output_name
            told = record if in_tree else _described(record, label, picture)
            yield told, _judged(result, label, picture)
        yield observer.extras()


def encode_translated(facts: Facts, picture: Candidate, how: PictureFormat) -> Result:
    """Encodes a picture and measures it."""
    encoded = Encoded(encode_picture(picture.made.pixels, how), how.name)
    row, sums = measured(picture, encoded)
    row |= {
        "source_width": facts.size_hw[1],
        "source_height": facts.size_hw[0],
        "source_brightness": facts.brightness,
    }
    sums["source_formats"] = {facts.format: 1}
    outputs = {"images": encoded}
    if picture.made.mask is not None:  # the label of what was made
        outputs["masks"] = Encoded(encode_png(picture.made.mask), "png")
    return Result(outputs, row, sums, picture=picture)


def check_finite(made: Made) -> None:
    """Raises a Failure when the model's numbers are no picture."""
    if not made.finite:
        raise Failure("model", "not_finite", "the model answered NaN or infinity; check its card")


def label_of(features: bytes) -> int:
    """The label of a tf.Example, of its feature image/class/label; NO_LABEL when it has none."""
    found = tf.train.Example.FromString(features).features.feature
    if LABEL not in found:
        return NO_LABEL
    values = found[LABEL].int64_list.value
    return int(values[0]) if len(values) == 1 and values[0] >= 0 else NO_LABEL


def _described(record: Record, label: int, picture: Candidate) -> Record:
    """The record with what is known of the picture that was made of it among its features."""
    example = tf.train.Example.FromString(record.features)
    describe_picture(example, label, picture)
    features = bytes(example.SerializeToString(deterministic=True))
    return dataclasses.replace(record, features=features)


def _judged(result: Result, label: int, picture: Candidate) -> Result:
    """The result with what the verifier says, and with its twin."""
    seen = seen_row(label, picture.seen)
    row = {
        "label": None if label == NO_LABEL else label,
        "duplicate_of": None if picture.twin is None else picture.twin.name,
    }
    sums = dict(result.sums) | seen_sums(label, picture.seen)
    rank = seen.get("confidence")
    return dataclasses.replace(result, row={**result.row, **seen, **row}, sums=sums, rank=rank)

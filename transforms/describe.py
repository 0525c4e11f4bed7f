"""Describing: the operator that looks at training images, so that generated ones can be compared.

Nothing is written but what is known of them: fingerprints, colours, what the verifier sees, and
the state of their features.
"""

import dataclasses
import io
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.classifier import Seen
from models.devices import DeviceOptions, configure
from models.generator import Made
from transforms import storage
from transforms.checking import (
    CHECK_COLUMNS,
    Candidate,
    Checked,
    Checks,
    Untouched,
    seen_row,
    seen_sums,
)
from transforms.clock import Clock
from transforms.decode import DecodePolicy
from transforms.failures import Failure
from transforms.feature_names import FeatureNames
from transforms.guard import Marks, Reference
from transforms.inputs import Plan, Shard
from transforms.items import NO_LABEL
from transforms.observed import ShardObserver
from transforms.outcomes import colour_numbers
from transforms.picture_work import PictureWork, Settings
from transforms.records import Record, Result, WorkStream
from transforms.shard_work import Work
from transforms.sink import RECORDS, Sink
from transforms.sums import byte_histogram
from transforms.survive import TIMEOUT_S
from transforms.translate import label_of

COLUMNS = pa.schema(
    [
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("brightness", pa.float64()),
        pa.field("saturation", pa.float64()),
        pa.field("label", pa.int32()),
        *CHECK_COLUMNS,
    ]
)


@dataclasses.dataclass(frozen=True)
class DescribeOperator:
    """Settings of a description; all of it is pickled to the workers.

    Attributes:
        sink: of kind "images", with COLUMNS; as files, so that no file of pictures is made.
        batch_size: pictures that the models get at once.
        checks: of the run that is to be compared: which models look.
        classes: names by label, to tell the labels of image files from their folders.
        policy: how pictures are decoded.
        features: names in the tf.Examples.
        threads: that decode; 0 for one a core.
        batch_timeout_s: for one call of the models; 0 to wait for ever.
        devices: settings of the accelerators.
    """

    sink: Sink
    batch_size: int
    checks: Checks
    classes: tuple[str, ...] = ()
    policy: DecodePolicy = DecodePolicy()
    features: FeatureNames = FeatureNames()
    threads: int = 0
    batch_timeout_s: float = TIMEOUT_S
    devices: DeviceOptions = DeviceOptions()

    def open(self) -> Work:
        """Loads the models that look. Raises ModelError."""
        configure(self.devices)
        return _DescribeWork(self)


class _DescribeWork:
    def __init__(self, settings: DescribeOperator) -> None:
        self._settings = settings
        checks = settings.checks
        self._work = PictureWork(
            Settings(
                settings.policy, settings.features, settings.threads, settings.batch_timeout_s
            ),
            lambda: Checked(Untouched(settings.batch_size), checks),
            lambda facts, answer: describe(*answer),
        )

    def __call__(self, shard: Shard, clock: Clock) -> WorkStream:
        observer = ShardObserver(shard.name, len(self._settings.classes))
        for record, result in self._work(shard, clock):
            if isinstance(result, Failure) or result.picture is None:
                yield record, result
                continue
            label, seen = self._label(record, shard), result.picture.seen
            observer.add(f"{shard.name}\0{record.key}", record.index, label, seen)
            named = seen_row(label, seen) | {"label": None if label == NO_LABEL else label}
            sums = dict(result.sums) | seen_sums(label, seen)
            if label != NO_LABEL:
                sums["labels"] = {str(label): 1}
            yield record, dataclasses.replace(result, row={**result.row, **named}, sums=sums)
        yield observer.extras()

    def _label(self, record: Record, shard: Shard) -> int:
        """Of a tf.Example its feature; of a file the class that its folder is named after."""
        if shard.is_examples or label_of(record.features) != NO_LABEL:
            return label_of(record.features)
        folder = os.path.basename(os.path.dirname(record.source))
        return self._settings.classes.index(folder) if folder in self._settings.classes else -1


def describe(made: Made, seen: Seen | None) -> Result:
    """What is known of one training image; no picture is written."""
    pixels = made.pixels
    marks, colours = Marks.of(pixels), colour_numbers(pixels)
    height, width = pixels.shape[:2]
    row = {"width": width, "height": height, **colours, **marks.row()}
    sums = {name: byte_histogram(value) for name, value in colours.items()}
    return Result({}, row, sums, picture=Candidate(made, seen, marks))


def gather(root: str, plan: Plan) -> Reference:
    """The fingerprints of all images of a described reference, in the order of its plan.

    Raises:
        OSError: a shard's records cannot be read.
    """
    digests, phashes, places = [], [], []
    for number, shard in enumerate(plan.shards):
        data = storage.read_bytes(os.path.join(root, RECORDS, f"{shard.name}.parquet"))
        table = pq.read_table(io.BytesIO(data), columns=["index", "digest", "phash"])
        for row in table.to_pylist():
            if row["digest"] is not None:
                digests.append(int(row["digest"], 16))
                phashes.append(int(row["phash"], 16))
                places.append((number, row["index"]))
    return Reference(
        np.array(digests, np.uint64),
        np.array(phashes, np.uint64),
        np.array(places, np.int32).reshape(-1, 2),
        tuple(shard.name for shard in plan.shards),
    )

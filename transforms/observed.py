"""What a shard remembers of its pictures as a whole: features, attempts, and rejected pictures."""

import dataclasses
import io
from typing import IO, Any, cast

from models.classifier import Seen
from models.loading import import_tensorflow
from transforms.attempts import Asked, Rejection
from transforms.feature_state import FeatureCollector, Observation
from transforms.formats.tfrecord import write_record
from transforms.records import Encoded, Extras
from transforms.sums import Sums, add

tf = import_tensorflow()

FEATURES_FOLDER, REJECTED_FOLDER = "features", "rejected"
_KEEP_REJECTED = 24


def features_path(shard_name: str) -> str:
    """The state of a shard's features, relative to OUT."""
    return f"{FEATURES_FOLDER}/{shard_name}.npz"


def rejected_path(shard_name: str) -> str:
    """Some of a shard's rejected pictures, relative to OUT: a TFRecord file of tf.Examples."""
    return f"{REJECTED_FOLDER}/{shard_name}.tfrecord"


@dataclasses.dataclass(frozen=True)
class RejectedPicture:
    """An encoded picture that was not taken, to be shown."""

    key: str
    asked: Asked
    picture: Encoded
    why: Rejection
    row: dict[str, Any]


class ShardObserver:
    """Collects, in the order of records, and closes the shard."""

    def __init__(self, shard_name: str, classes: int) -> None:
        self._shard = shard_name
        self._collector = FeatureCollector(classes)
        self._sums: Sums = {}
        self._rejected: dict[tuple[int, str], RejectedPicture] = {}

    def add(self, key: str, index: int, label: int, seen: Seen | None) -> None:
        """Notes what was seen in a picture that was written; `key` is unique in the run."""
        if seen is not None:
            row = Observation(key, index, label, seen.features, seen.probabilities)
            self._collector.add(row)

    def add_sums(self, sums: Sums) -> None:
        self._sums = add(self._sums, sums)

    def keeps(self, label: int, reason: str) -> bool:
        """Whether a rejected picture would be kept: the first for each label and reason."""
        return (label, reason) not in self._rejected and len(self._rejected) < _KEEP_REJECTED

    def add_rejected(self, rejected: RejectedPicture) -> None:
        if self.keeps(rejected.asked.label, rejected.why.reason):
            self._rejected[rejected.asked.label, rejected.why.reason] = rejected

    def extras(self) -> Extras:
        """All of it."""
        files = {}
        if (state := self._collector.state()) is not None:
            files[features_path(self._shard)] = state.to_bytes()
        if self._rejected:
            buffer = io.BytesIO()
            for rejected in self._rejected.values():
                write_record(cast(IO[bytes], buffer), _example(rejected))
            files[rejected_path(self._shard)] = buffer.getvalue()
        return Extras(files, self._sums)


def _example(rejected: RejectedPicture) -> bytes:
    example = tf.train.Example()
    features = example.features.feature
    texts = {
        "image/encoded": rejected.picture.data,
        "image/format": rejected.picture.format.encode(),
        "image/filename": rejected.key.encode("utf-8", "replace"),
        "image/rejected/reason": rejected.why.reason.encode(),
        "image/rejected/message": rejected.why.message.encode("utf-8", "replace"),
    }
    numbers = {
        "image/generated/item": rejected.asked.number,
        "image/generated/attempt": rejected.asked.attempt,
        "image/generated/label_asked": rejected.asked.label,
    }
    if "predicted" in rejected.row:
        numbers["image/generated/label_predicted"] = rejected.row["predicted"]
        features["image/generated/confidence"].float_list.value.append(rejected.row["confidence"])
    for name, text in texts.items():
        features[name].bytes_list.value.append(text)
    for name, number in numbers.items():
        features[name].int64_list.value.append(number)
    return bytes(example.SerializeToString(deterministic=True))

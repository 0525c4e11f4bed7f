"""What is kept of a shard's features: enough for every metric, mergeable, small, in one file.

    moments   n, mean and scatter by class                             Frechet distance
    scores    sums of the verifier's probabilities by class            Inception score
    sample    the rows with the smallest hashes of their names         KID, precision and recall

Which rows are in the sample depends on their names alone, not on shards, order or workers.
Floating point sums depend on the order in the last bits, so shards are merged in that of the plan.
"""

import dataclasses
import hashlib
import io
from collections.abc import Mapping
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from transforms.fidelity import ScoreSums
from transforms.moments import Moments, packed, unpacked

SAMPLE = 5000  # rows that a run keeps
_BLOCK = 256  # rows that are added at once
_CLASS_BYTES = 64 << 20  # that scatters by class may take; above, there are none
ALL = -1  # the group of rows without a label, and of all where there are no groups


@dataclasses.dataclass(frozen=True)
class Observation:
    """What models say of one picture.

    Attributes:
        key: its name, unique in the run.
        index: of its record in the shard.
        label: that was asked for, or that it has; ALL for none.
        features: float32 [D].
        probabilities: float64 [C], of the verifier; None without one.
    """

    key: str
    index: int
    label: int
    features: npt.NDArray[np.float32]
    probabilities: npt.NDArray[np.float64] | None = None


@dataclasses.dataclass(frozen=True)
class Sample:
    """The rows with the smallest hashes, in their order.

    Attributes:
        hashes: uint64 [k] of the names, ascending.
        labels: int32 [k].
        places: int32 [k, 2], number of the shard in the plan and index of the record.
        features: float32 [k, D].
    """

    hashes: npt.NDArray[np.uint64]
    labels: npt.NDArray[np.int32]
    places: npt.NDArray[np.int32]
    features: npt.NDArray[np.float32]

    def merge(self, other: "Sample", most: int = SAMPLE) -> "Sample":
        """The bottom `most` of both."""
        hashes = np.concatenate([self.hashes, other.hashes])
        order = np.argsort(hashes, kind="stable")[:most]
        return Sample(
            hashes[order],
            np.concatenate([self.labels, other.labels])[order],
            np.concatenate([self.places, other.places])[order],
            np.concatenate([self.features, other.features])[order],
        )


@dataclasses.dataclass(frozen=True)
class FeatureState:
    """What is to be known of the features of many pictures.

    Attributes:
        moments, scores: by label; of all pictures under ALL where labels have no meaning or
            would take too much room.
        sample: of all.
    """

    moments: Mapping[int, Moments]
    scores: Mapping[int, ScoreSums]
    sample: Sample

    @staticmethod
    def of(rows: list[Observation], by_class: bool) -> "FeatureState":
        """Of at least one picture."""
        features = np.stack([row.features for row in rows]).astype(np.float32)
        groups = np.array([row.label if by_class else ALL for row in rows])
        moments, scores = {}, {}
        for group in np.unique(groups).tolist():
            chosen = groups == group
            moments[group] = Moments.of(features[chosen])
            found = [row.probabilities for row, ok in zip(rows, chosen, strict=True) if ok]
            known = [p for p in found if p is not None]
            if known:
                scores[group] = ScoreSums.of(np.stack(known))
        hashes = np.array([name_hash(row.key) for row in rows], np.uint64)
        labels = np.array([row.label for row in rows], np.int32)
        places = np.array([(0, row.index) for row in rows], np.int32)
        whole = Sample(hashes, labels, places, features)
        empty = Sample(hashes[:0], labels[:0], places[:0], features[:0])
        return FeatureState(moments, scores, whole.merge(empty))

    def merge(self, other: "FeatureState") -> "FeatureState":
        """Of the pictures of both."""
        moments, scores = dict(self.moments), dict(self.scores)
        for group, value in other.moments.items():
            moments[group] = moments[group].merge(value) if group in moments else value
        for group, sums in other.scores.items():
            scores[group] = scores[group].merge(sums) if group in scores else sums
        return FeatureState(moments, scores, self.sample.merge(other.sample))

    def all_moments(self) -> Moments:
        """Of the pictures of all groups."""
        first, *others = (self.moments[group] for group in sorted(self.moments))
        for moments in others:
            first = first.merge(moments)
        return first

    def all_scores(self) -> ScoreSums | None:
        """Of the pictures of all groups; None without a verifier."""
        groups = [self.scores[group] for group in sorted(self.scores)]
        if not groups:
            return None
        first, *others = groups
        for sums in others:
            first = first.merge(sums)
        return first

    def to_bytes(self) -> bytes:
        """An .npz file, the same bytes for the same state."""
        arrays: dict[str, Any] = {
            "sample_hashes": self.sample.hashes,
            "sample_labels": self.sample.labels,
            "sample_indices": self.sample.places[:, 1],
            "sample_features": self.sample.features,
            "groups": np.array(sorted(self.moments), np.int64),
            "n": np.array([self.moments[g].n for g in sorted(self.moments)], np.int64),
            "mean": np.stack([self.moments[g].mean for g in sorted(self.moments)]),
            "scatter": np.stack([packed(self.moments[g].scatter) for g in sorted(self.moments)]),
        }
        if self.scores:
            sums = [self.scores[group] for group in sorted(self.scores)]
            arrays["score_groups"] = np.array(sorted(self.scores), np.int64)
            arrays["score_n"] = np.array([s.n for s in sums], np.int64)
            arrays["score_probabilities"] = np.stack([s.probabilities for s in sums])
            arrays["score_negative_entropy"] = np.array([s.negative_entropy for s in sums])
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        return buffer.getvalue()

    @staticmethod
    def from_bytes(data: bytes, shard: int) -> "FeatureState":
        """Reads what `to_bytes` gave, of the shard of this number in the plan.

        Raises:
            ValueError: it is no such file.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                indices, features = arrays["sample_indices"], arrays["sample_features"]
                size = features.shape[1]
                sample = Sample(
                    arrays["sample_hashes"],
                    arrays["sample_labels"],
                    np.stack([np.full_like(indices, shard), indices], axis=1),
                    features,
                )
                rows = zip(arrays["n"].tolist(), arrays["mean"], arrays["scatter"], strict=True)
                moments = {
                    group: Moments(n, mean, unpacked(scatter, size))
                    for group, (n, mean, scatter) in zip(
                        arrays["groups"].tolist(), rows, strict=True
                    )
                }
                scores = {}
                if "score_groups" in arrays:
                    sums = zip(
                        arrays["score_n"].tolist(),
                        arrays["score_probabilities"],
                        arrays["score_negative_entropy"].tolist(),
                        strict=True,
                    )
                    groups = arrays["score_groups"].tolist()
                    scores = {g: ScoreSums(*s) for g, s in zip(groups, sums, strict=True)}
                return FeatureState(moments, scores, sample)
        except (KeyError, OSError, EOFError, IndexError, ValueError, BadZipFile) as error:
            raise ValueError(f"it is no state of features: {error}") from error


class FeatureCollector:
    """Makes the state of one shard from its pictures, in their order."""

    def __init__(self, classes: int) -> None:
        self._classes = max(1, classes)
        self._rows: list[Observation] = []
        self._state: FeatureState | None = None

    def add(self, row: Observation) -> None:
        self._rows.append(row)
        if len(self._rows) == _BLOCK:
            self._flush()

    def state(self) -> FeatureState | None:
        """Of all so far; None of no pictures."""
        self._flush()
        return self._state

    def _flush(self) -> None:
        if not self._rows:
            return
        size = len(self._rows[0].features)
        by_class = 8 * size * size * self._classes <= _CLASS_BYTES
        state = FeatureState.of(self._rows, by_class)
        self._state = state if self._state is None else self._state.merge(state)
        self._rows = []


def name_hash(key: str) -> int:
    """64 bits of a name, evenly spread."""
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8", "replace"), digest_size=8).digest())

"""Evaluating: the operators that compare predicted masks with labels, or look at masks alone.

EvaluateOperator reads masks, and finds the partner of each; ScoreOperator runs a model, and finds
the label of each picture. Nothing is written but scores, and masks when asked for.
"""

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from models.answers import Segmentation
from models.devices import configure
from transforms.clock import Clock
from transforms.decode import MAX_PIXELS, Facts
from transforms.evaluation.encodings import decode_values
from transforms.evaluation.scoring import COLUMNS, Masks, Scored, Scoring, score
from transforms.evaluation.tally import AT_ONCE, Tally
from transforms.failures import Failure
from transforms.feature_names import FeatureNames
from transforms.inputs import Shard
from transforms.partners import Found, MaskSet, Partners, pair_name, wanted_names, with_confidence
from transforms.picture_work import PictureWork, Settings
from transforms.png import encode_png
from transforms.records import Answered, Encoded, Extras, Item, Record, Result, Stream, WorkStream
from transforms.segment import SegmentOperator, check, load_segmenter, sums_of
from transforms.shard_work import Work
from transforms.sink import Sink
from transforms.sources import Load, read_shard
from transforms.streams import Ahead, attempt, ordered_map
from transforms.training_data import mask_bytes

ROWS, UNPAIRED = "rows", "unpaired"
_MISSING: dict[str, Any] = {f.name: [] if pa.types.is_list(f.type) else None for f in COLUMNS}
_AHEAD_ITEMS = 64
_AHEAD_BYTES = 256 << 20


@dataclasses.dataclass(frozen=True)
class EvaluateOperator:
    """Settings of an evaluation of masks; all of it is pickled to the workers.

    Attributes:
        sink: as files, with COLUMNS; no pictures are written.
        scoring: what is measured. With labels, shards are of labels and `predictions` tells where
            their partners are; without, shards are of predictions.
        names: features of the mask and of the key, in tf.Examples of the shards.
        suffix: that names of the masks have (see transforms/partners.py).
        predictions: the other set.
        confidence_root: folder of the confidence maps of predictions, without labels.
        max_pixels: larger masks are failures.
        threads: that read and decode; 0 for one a core.
    """

    sink: Sink
    scoring: Scoring
    names: FeatureNames
    suffix: str = ""
    predictions: MaskSet | None = None
    confidence_root: str = ""
    max_pixels: int = MAX_PIXELS
    threads: int = 0

    def open(self) -> Work:
        return _EvaluateWork(self)


class _Loads(NamedTuple):
    """What is to be read for one record; `label` is None without labels."""

    label: Load | None
    prediction: Found


class _EvaluateWork:
    def __init__(self, settings: EvaluateOperator) -> None:
        self._settings = settings
        self._threads = settings.threads or os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(self._threads, "codec")
        self._partners = Partners(settings.predictions) if settings.predictions else None

    def __call__(self, shard: Shard, clock: Clock) -> WorkStream:
        ahead = Ahead(_AHEAD_ITEMS, _AHEAD_BYTES, self._threads)

        def scored(named: tuple[str, _Loads]) -> _Done:
            return self._score(*named, clock, ahead)

        left: set[str] = set()
        items = self._items(shard, clock, left)
        ending = _Ending(self._settings.scoring)
        yield from ending.results(
            ordered_map(self._pool, attempt(scored), items, ahead, waiting=lambda: clock("wait"))
        )
        yield ending.extras(shard.name, sorted(left))

    def _items(
        self, shard: Shard, clock: Clock, left: set[str]
    ) -> Iterator[Item[tuple[str, _Loads]]]:
        """What belongs together. `left` is given the names of partners that nobody asked for, where
        the shard alone can tell."""
        settings = self._settings
        records = clock.iterate("read", read_shard(shard, settings.names))
        if self._partners is None:
            for record, load in records:
                if isinstance(load, Failure):
                    yield _light(record), load
                else:
                    found = with_confidence(record, load, settings.confidence_root)
                    yield _light(record), (record.key, _Loads(None, found))
            return
        with clock("read"):
            partners = self._partners.of(shard, self._wanted(shard))
        by_shard = settings.predictions is not None and settings.predictions.by_shard
        left.update(partners if by_shard else ())
        for record, load in records:
            name = pair_name(record.key, settings.suffix)
            if name is None:
                continue
            left.discard(name)
            if isinstance(load, Failure):
                yield _light(record), load
            elif (partner := partners.get(name)) is None:
                yield _light(record), _missing(name)
            else:
                yield _light(record), (record.key, _Loads(load, partner))

    def _wanted(self, shard: Shard) -> set[str]:
        settings = self._settings
        if settings.predictions is None or not settings.predictions.index:
            return set()
        return wanted_names(shard, settings.names, settings.suffix)

    def _score(self, key: str, loads: _Loads, clock: Clock, ahead: Ahead) -> "_Done":
        """Raises a Failure."""
        settings, scoring = self._settings, self._settings.scoring
        with clock("read"):
            label = None if loads.label is None else loads.label()
            if isinstance(loads.prediction.mask, Failure):
                raise loads.prediction.mask
            prediction = loads.prediction.mask()
            confidence = loads.prediction.confidence and loads.prediction.confidence()
        with clock("decode"):
            predicted = decode_values(
                prediction,
                scoring.predictions.encoding,
                f"prediction of {key}",
                settings.max_pixels,
            )
            truth = _decode_label(label, scoring, key, settings.max_pixels)
            sure = (
                _bytes_of(
                    decode_values(confidence, "ids", f"confidence of {key}", settings.max_pixels)
                )
                if confidence
                else None
            )
        ahead.saw(4 * predicted.nbytes)
        with clock("check"):
            return _Done({}, score(Masks(predicted, truth, sure), scoring, key))


@dataclasses.dataclass(frozen=True)
class ScoreOperator:
    """Settings of segmenting and scoring in one pass.

    Attributes:
        segmenting: how pictures become masks; its sink is this operator's.
        scoring: what is measured.
        labels: where the labels are; None when they are in the pictures' tf.Examples, or beside
            the image files.
        mask_feature: of labels in the pictures' tf.Examples.
        write_masks: also write the masks.
    """

    segmenting: SegmentOperator
    scoring: Scoring
    labels: MaskSet | None = None
    mask_feature: str = "image/segmentation/class/encoded"
    write_masks: bool = False
    sink: Sink = dataclasses.field(kw_only=True)

    def open(self) -> Work:
        """Loads the model. Raises ModelError."""
        configure(self.segmenting.devices)
        return _ScoreWork(self)


class _ScoreWork:
    def __init__(self, settings: ScoreOperator) -> None:
        self._settings = settings
        of = settings.segmenting
        self._threads = of.threads or os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(self._threads, "score")
        self._partners = Partners(settings.labels) if settings.labels else None
        self._work = PictureWork(
            Settings(of.policy, of.features, of.threads, of.batch_timeout_s),
            lambda: load_segmenter(of, with_confidence=True),
            self._encode,
        )

    def _encode(self, facts: Facts, answer: Segmentation) -> Result:
        check(answer)
        outputs = {}
        if self._settings.write_masks:
            outputs["masks"] = Encoded(encode_png(answer.mask), "png")
        sums = sums_of(facts, answer.mask.shape, answer)
        known = {name: sums[name] for name in _OF_THE_MODEL if name in sums}
        return Answered(outputs, {}, known, answer=answer)

    def __call__(self, shard: Shard, clock: Clock) -> WorkStream:
        partners: Mapping[str, Found] = {}
        if self._partners is not None:
            with clock("read"):
                partners = self._partners.of(shard, self._wanted(shard))
        ahead = Ahead(_AHEAD_ITEMS, _AHEAD_BYTES, self._threads)

        def step(item: Item[Result]) -> Item[_Done]:
            record, result = item
            if isinstance(result, Failure):
                return _light(record), result
            assert isinstance(result, Answered) and result.answer is not None
            ahead.saw(4 * result.answer.mask.nbytes)
            try:
                scored = self._score(shard, record, result, partners, clock)
            except Failure as failure:
                return _light(record), failure
            return record if self._settings.write_masks else _light(record), scored

        ending = _Ending(self._settings.scoring)
        yield from ending.results(ordered_map(self._pool, step, self._work(shard, clock), ahead))
        yield ending.extras(shard.name, ())

    def _wanted(self, shard: Shard) -> set[str]:
        labels = self._settings.labels
        if labels is None or not labels.index:
            return set()
        return wanted_names(shard, self._settings.segmenting.features, "")

    def _score(
        self,
        shard: Shard,
        record: Record,
        result: Answered,
        partners: Mapping[str, Found],
        clock: Clock,
    ) -> "_Done":
        """Raises a Failure."""
        settings, answer = self._settings, result.answer
        assert answer is not None
        with clock("read"):
            label = self._label(shard, record, partners)
        with clock("decode"):
            truth = _decode_label(
                label, settings.scoring, record.key, settings.segmenting.policy.max_pixels
            )
        with clock("check"):
            masks = Masks(answer.mask, truth, answer.confidence)
            scored = score(masks, settings.scoring, record.key)
        return _Done(result.outputs, scored._replace(sums={**scored.sums, **result.sums}))

    def _label(self, shard: Shard, record: Record, partners: Mapping[str, Found]) -> bytes:
        if self._partners is None:
            return mask_bytes(shard, record, self._settings.mask_feature)
        found = partners.get(pair_name(record.key) or "")
        if found is None:
            raise Failure("read", "mask_missing", f"there is no label for {record.key} in --labels")
        if isinstance(found.mask, Failure):
            raise found.mask
        return found.mask()


# What a segmenter's answer tells beside the mask; see transforms/segment.py.
_OF_THE_MODEL = ("confidence", "entropy", "margin", "brightness", "formats", "modes")


class _Done(NamedTuple):
    """What came of one record: encoded pictures by kind, and what was counted."""

    outputs: Mapping[str, Encoded]
    scored: Scored


class _Ending:
    """The last step: makes rows of what was counted, sums, and JSON lines, which BigQuery and
    pandas load as they are."""

    def __init__(self, scoring: Scoring) -> None:
        self._tally = Tally(scoring)
        self._lines: list[str] = []

    def results(self, items: Stream[_Done]) -> Stream[Result]:
        """Results in the order of the items. They carry no sums: the extras have those of all."""
        while some := list(islice(items, AT_ONCE)):
            good = [done.scored for _, done in some if not isinstance(done, Failure)]
            rows = iter(self._tally.add(good) if good else ())
            for record, done in some:
                if isinstance(done, Failure):
                    self._note({"key": record.key, "status": "failed", "reason": done.reason}, {})
                    yield record, done
                else:
                    row = next(rows)
                    self._note({"key": record.key, "status": "ok", "reason": None}, row)
                    yield record, Result(done.outputs, row, {}, rank=_rank(row))

    def _note(self, fields: dict[str, Any], row: Mapping[str, Any]) -> None:
        """All columns in every line; lists, BigQuery's repeated fields, are never null."""
        self._lines.append(json.dumps({**fields, **_MISSING, **row}))

    def extras(self, shard: str, left: Sequence[str]) -> Extras:
        """The file of rows, the names of partners that nobody asked for, and all sums."""
        files = {f"{ROWS}/{shard}.jsonl": "".join(f"{line}\n" for line in self._lines).encode()}
        if left:
            names = "".join(f"{json.dumps({'prediction': name})}\n" for name in left)
            files[f"{UNPAIRED}/{shard}.jsonl"] = names.encode()
        return Extras(files, {**self._tally.sums(), "unpaired_predictions": len(left)})


def _decode_label(
    data: bytes | None, scoring: Scoring, key: str, max_pixels: int
) -> npt.NDArray[Any] | None:
    """Values of a label; None without labels. Raises a Failure."""
    if data is None or scoring.labels is None:
        return None
    return decode_values(data, scoring.labels.encoding, f"label of {key}", max_pixels)


def _bytes_of(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if values.dtype != np.uint8:
        raise Failure("decode", "mask_format", "a confidence map must be grey of 8 bit")
    return values


def _light(record: Record) -> Record:
    """A record without the other features of its tf.Example, which scores do not need."""
    return dataclasses.replace(record, features=b"") if record.features else record


def _missing(name: str) -> Failure:
    return Failure(
        "read",
        "prediction_missing",
        f"there is no prediction named {name}; it failed, or names differ: see --label_suffix, "
        "--prediction_suffix and --pair_by",
    )


def _rank(row: Mapping[str, Any]) -> float | None:
    """By what the pictures to be shown are chosen: the worst first."""
    value = row.get("miou")
    return row.get("mean_confidence") if value is None else value

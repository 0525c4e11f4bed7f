"""The segmenting chain with a model made of numpy: order, failures, batches, bytes, metrics."""

import dataclasses
import io
import threading
import time
from unittest import mock

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from models.answers import Segmentation
from transforms import storage
from transforms.clock import Clock
from transforms.decode import DecodePolicy, decode
from transforms.failures import Failure
from transforms.inputs import ImageFile, Shard
from transforms.picture_work import at_most, picture_survivor
from transforms.records import Record
from transforms.segment import COLUMNS, SegmentOperator, encode_result
from transforms.shard_work import process_shard
from transforms.sink import Sink
from transforms.sums import histogram_mean

CLASSES = 4
POISON = 255  # a picture of this grey makes the model raise
NOT_FINITE = 254
OUT_OF_RANGE = 253


@dataclasses.dataclass(frozen=True)
class FakeBinding:
    """Of a model that takes any size, or one."""

    size_hw: tuple[int, int] | None = None
    fixed_batch: int | None = None

    def model_size_hw(self, size_hw):
        return self.size_hw or size_hw


class FakeSegmenter:
    """Class = grey level // 64; confidence = grey level. Notes what it was called with."""

    def __init__(self, batch_size=4, size_hw=None, with_scores=True):
        self.batch_size = batch_size
        self.binding = FakeBinding(size_hw)
        self.calls = []
        self._with_scores = with_scores
        self._turns = threading.BoundedSemaphore(2)

    def __call__(self, images):
        assert self._turns.acquire(blocking=False), "two batches at a time"
        try:
            self.calls.append([int(image[0, 0, 0]) for image in images])
            assert 0 < len(images) <= self.batch_size
            assert len({self.binding.model_size_hw(image.shape[:2]) for image in images}) == 1
            if any(image[0, 0, 0] == POISON for image in images):
                raise RuntimeError("poisoned")
            return [self.answer(image) for image in images]
        finally:
            self._turns.release()

    def answer(self, image):
        grey = image[..., 0]
        mask = grey // 64
        histogram = np.bincount(grey.ravel(), minlength=256).astype(np.int64)
        return Segmentation(
            mask=mask,
            confidence=grey if self._with_scores else None,
            class_pixels=np.bincount(mask.ravel(), minlength=CLASSES).astype(np.int64),
            histograms=np.stack([histogram] * 3) if self._with_scores else None,
            finite=grey[0, 0] != NOT_FINITE,
            in_range=grey[0, 0] != OUT_OF_RANGE,
        )


def png(grey, size_hw=(6, 8)):
    buffer = io.BytesIO()
    Image.fromarray(np.full((*size_hw, 3), grey, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def folder_of(tmp_path, pictures):
    """A shard of files; each is bytes, or a grey level for a small picture."""
    root = tmp_path / "in"
    root.mkdir(exist_ok=True)
    files = []
    for index, content in enumerate(pictures):
        data = png(content) if isinstance(content, int) else content
        (root / f"{index:03}.png").write_bytes(data)
        files.append(ImageFile(f"{index:03}.png", f"{index:03}", len(data)))
    return Shard("in-00000-of-00001", str(root), 1, tuple(files))


def operator_at(out, **settings):
    sink = Sink(str(out), "masks", settings.pop("format", "folder"), COLUMNS)
    defaults = {"model": "fake", "binding": None, "sink": sink, "batch_size": 4, "threads": 3}
    return SegmentOperator(**{**defaults, **settings})


def work_of(operator, segmenter):
    with mock.patch("transforms.segment.Segmenter", return_value=segmenter):
        work = operator.open()
    segmenter.calls.clear()  # of the warm-up
    return work


def answers_of(segmenter, items):
    return picture_survivor(lambda: segmenter, timeout_s=60)(items)


@pytest.mark.parametrize("most", [0, 1, 3, 5, 8, 9, 100])
@pytest.mark.parametrize("batch_size", [1, 6, 8])
def test_a_batch_below_the_one_asked_for_is_a_power_of_two(batch_size, most):
    size = at_most(batch_size, most)
    assert size == batch_size or (size & (size - 1) == 0 and size <= max(1, most))
    assert size > min(batch_size, most) / 2


def test_a_model_of_one_size_pads_no_batch_that_large_pictures_make_short():
    """At 2,000 x 2,000 pixels one picture is a batch: three of four would be nothing."""
    for size_hw, fixed_batch, expected in (
        ((2000, 2000), None, 1),
        ((1024, 1024), None, 4),
        ((64, 64), None, 8),
        (None, None, 8),
        ((2000, 2000), 8, 8),
    ):
        segmenter = FakeSegmenter(8, size_hw)
        segmenter.binding = FakeBinding(size_hw, fixed_batch)
        assert picture_survivor(lambda s=segmenter: s, 60).model.batch_size == expected


def run(shard, out, segmenter=None, **settings):
    operator = operator_at(out, **settings)
    work = work_of(operator, segmenter or FakeSegmenter())
    report = process_shard(shard, lambda: work, operator.sink)
    assert report.error is None, report.error
    return report, pq.read_table(f"{out}/records/{shard.name}.parquet").to_pylist()


def mask_of(out, name):
    with Image.open(f"{out}/masks/{name}.png") as image:
        return np.asarray(image)


def items_of(greys):
    return [
        (Record(i, str(i), ""), decode(png(grey), DecodePolicy())) for i, grey in enumerate(greys)
    ]


# ---- a batch


def test_a_poisoned_picture_is_found_by_halving_and_its_mates_are_kept():
    segmenter = FakeSegmenter(batch_size=8)
    greys = [10, 20, 30, POISON, 50, 60, 70, 80]
    got = answers_of(segmenter, items_of(greys))
    assert [record.index for record, _ in got] == list(range(8))
    for (_, value), grey in zip(got, greys, strict=True):
        if grey == POISON:
            assert value.reason == "model_error" and value.stage == "model"
            assert (
                value.message == "the model failed on this picture of 8x6: RuntimeError: poisoned"
            )
        else:
            np.testing.assert_array_equal(value.mask, grey // 64)
    assert len(segmenter.calls) <= 2 * 3 + 1


def test_several_poisoned_pictures_all_fail_and_no_other():
    greys = [POISON, 1, 2, POISON, POISON, 3]
    got = answers_of(FakeSegmenter(batch_size=6), items_of(greys))
    assert [isinstance(value, Failure) for _, value in got] == [g == POISON for g in greys]


def test_answers_that_are_no_answer_fail_alone(tmp_path):
    greys = [5, NOT_FINITE, OUT_OF_RANGE, 6]
    _, rows = run(folder_of(tmp_path, greys), tmp_path / "out")
    assert [row["reason"] for row in rows] == [None, "not_finite", "id_range", None]
    assert "0 to 3" in rows[2]["message"]


def test_a_failure_never_reaches_the_model():
    segmenter = FakeSegmenter()
    failed = [(Record(0, "a", ""), Failure("decode", "corrupt", "x"))]
    assert answers_of(segmenter, failed) == failed
    assert segmenter.calls == []


# ---- a result


def test_a_result_is_measured(tmp_path):
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[2:] = 130
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    picture = decode(buffer.getvalue(), DecodePolicy())
    answer = FakeSegmenter().answer(picture.pixels)
    result = encode_result(picture.facts, answer, operator_at(tmp_path))
    assert set(result.outputs) == {"masks"}
    assert result.row["classes"] == [0, 2] and result.row["class_pixels"] == [8, 8]
    assert result.row["mean_confidence"] == pytest.approx(65 / 255) == result.rank
    assert result.row["mask_bytes"] == len(result.outputs["masks"].data)
    assert set(result.row) == set(COLUMNS.names)
    assert result.sums["pixels"] == 16 and result.sums["one_class_images"] == 0
    assert result.sums["class_pixels"].tolist() == [8, 0, 8, 0]
    assert result.sums["class_images"].tolist() == [1, 0, 1, 0]
    assert result.sums["ignored_pixels"] == 0
    assert histogram_mean(result.sums["confidence"]) == pytest.approx(65 / 255)
    assert result.sums["brightness"].tolist().index(1) == int(picture.facts.brightness)


def test_pixels_without_a_class_are_counted(tmp_path):
    picture = decode(png(70), DecodePolicy())
    answer = FakeSegmenter().answer(picture.pixels)
    fewer = dataclasses.replace(answer, class_pixels=answer.class_pixels // 2)
    result = encode_result(picture.facts, fewer, operator_at(tmp_path))
    assert result.sums["ignored_pixels"] == answer.class_pixels.sum() // 2


def test_a_model_of_ids_has_no_confidence(tmp_path):
    picture = decode(png(70), DecodePolicy())
    answer = FakeSegmenter(with_scores=False).answer(picture.pixels)
    result = encode_result(picture.facts, answer, operator_at(tmp_path, confidence_map=True))
    assert set(result.outputs) == {"masks"} and result.rank is None
    assert result.row["mean_confidence"] is None and "confidence" not in result.sums
    assert result.sums["one_class_images"] == 1


def test_a_mask_of_the_pictures_size_in_a_tree_of_files_has_its_place(tmp_path):
    place = ((33550, 12, (1.0, 1.0, 0.0)),)
    facts = dataclasses.replace(decode(png(70), DecodePolicy()).facts, georeference=place)
    (height, width), files = facts.size_hw, operator_at(tmp_path)
    files = dataclasses.replace(files, sink=dataclasses.replace(files.sink, format="folder"))
    shards = dataclasses.replace(files, sink=dataclasses.replace(files.sink, format="tfrecord"))
    assert files.place_of(facts, (height, width)) == place
    assert files.place_of(facts, (height, width - 1)) is None
    assert shards.place_of(facts, (height, width)) is None


# ---- a shard


def test_a_shard_with_everything_that_can_go_wrong(tmp_path):
    pictures = [10, b"", 70, POISON, png(130)[:30], NOT_FINITE, b"text", 200, OUT_OF_RANGE, 140]
    shard = folder_of(tmp_path, pictures)
    (tmp_path / "in/009.png").unlink()
    report, rows = run(shard, tmp_path / "out", confidence_map=True)
    assert [row["index"] for row in rows] == list(range(10))
    assert [row["reason"] for row in rows] == [
        None,
        "empty",
        None,
        "model_error",
        "corrupt",
        "not_finite",
        "unsupported",
        None,
        "id_range",
        "unreadable",
    ]
    assert (report.read, report.written, report.failed) == (10, 3, 7)
    for name, grey in (("000", 10), ("002", 70), ("007", 200)):
        np.testing.assert_array_equal(mask_of(tmp_path / "out", name), np.full((6, 8), grey // 64))
        confidence = storage.read_bytes(f"{tmp_path}/out/confidence/{name}.png")
        assert (np.asarray(Image.open(io.BytesIO(confidence))) == grey).all()
    assert report.sums["pixels"] == 3 * 48
    assert report.sums["class_pixels"] == [48, 48, 0, 48]
    assert report.sums["formats"] == {"PNG": 3}
    assert {file.path for file in report.files if file.path.startswith("masks")} == {
        f"masks/{name}.png" for name in ("000", "002", "007")
    }


@pytest.mark.parametrize("threads", [1, 5])
def test_mixed_sizes_keep_the_order_and_every_byte(tmp_path, threads):
    sizes = [(6, 8), (6, 8), (9, 5), (6, 8), (1, 1), (9, 5), (6, 8)] * 12
    shard = folder_of(tmp_path, [png(n % 250, size) for n, size in enumerate(sizes)])
    segmenter = FakeSegmenter(batch_size=3)
    slow = segmenter.answer
    segmenter.answer = lambda image: time.sleep(0.0002) or slow(image)
    report, rows = run(shard, tmp_path / f"out{threads}", segmenter, threads=threads, batch_size=3)
    assert report.failed == 0
    assert [(row["height"], row["width"]) for row in rows] == sizes
    for n, size in enumerate(sizes[:40]):
        mask = mask_of(tmp_path / f"out{threads}", f"{n:03}")
        assert mask.shape == size and (mask == n % 250 // 64).all()


def test_the_number_of_threads_changes_no_byte_and_no_batch(tmp_path):
    sizes = [(6, 8), (9, 5), (6, 8)] * 25
    shard = folder_of(tmp_path, [png(n, size) for n, size in enumerate(sizes)])
    outcomes = []
    for threads in (1, 6):
        segmenter = FakeSegmenter()
        out = tmp_path / f"out{threads}"
        report, _ = run(shard, out, segmenter, threads=threads, format="tfrecord")
        outcomes.append((sorted(segmenter.calls), dataclasses.replace(report, clock={})))
    assert outcomes[0] == outcomes[1]


def test_a_model_of_one_size_gets_full_batches_of_any_pictures(tmp_path):
    shard = folder_of(tmp_path, [png(n, (4 + n % 3, 7)) for n in range(10)])
    segmenter = FakeSegmenter(size_hw=(16, 16))
    run(shard, tmp_path / "out", segmenter)
    assert sorted(len(call) for call in segmenter.calls) == [2, 4, 4]


def test_huge_pictures_go_in_smaller_batches(tmp_path):
    shard = folder_of(tmp_path, [1, 2, 3])
    segmenter = FakeSegmenter(size_hw=(3000, 3000))  # 108 MB as float RGB
    run(shard, tmp_path / "out", segmenter)
    assert [len(call) for call in segmenter.calls] == [1, 1, 1]


class SmallMasks(FakeSegmenter):
    """Answers at the size at which it sees pictures, as a Segmenter with mask_at_model_size."""

    def answer(self, image):
        height, width = self.binding.size_hw
        return super().answer(image[:1, :1].repeat(height, axis=0).repeat(width, axis=1))


def test_rows_tell_the_size_of_the_mask(tmp_path):
    shard = folder_of(tmp_path, [png(100, (64, 80)), png(200, (4, 4))])
    report, rows = run(shard, tmp_path / "out", SmallMasks(size_hw=(16, 20)))
    assert report.failed == 0
    assert mask_of(tmp_path / "out", "000").shape == (16, 20)
    assert (rows[0]["height"], rows[0]["stored_height"]) == (16, 64)


def test_an_empty_folder_shard_never_calls_the_model(tmp_path):
    segmenter = FakeSegmenter()
    operator = operator_at(tmp_path / "out")
    path = tmp_path / "none.tfrecord"
    path.write_bytes(b"")
    work = work_of(operator, segmenter)
    assert list(work(Shard("s", str(path), 0), Clock())) == []
    assert segmenter.calls == []


def test_the_clock_knows_the_stages(tmp_path):
    report, _ = run(folder_of(tmp_path, list(range(20))), tmp_path / "out")
    spent = report.clock["microseconds"]
    assert all(spent[stage] > 0 for stage in ("read", "decode", "model", "encode", "write"))


def test_one_worker_process_can_do_shards_at_the_same_time(tmp_path):
    shard = folder_of(tmp_path, [n * 3 for n in range(40)])
    operator = operator_at(tmp_path / "out")
    segmenter = FakeSegmenter()
    work = work_of(operator, segmenter)
    first, second = work(shard, Clock()), work(shard, Clock())
    for (a, one), (b, two) in zip(first, second, strict=True):
        assert a == b and one.outputs["masks"] == two.outputs["masks"]

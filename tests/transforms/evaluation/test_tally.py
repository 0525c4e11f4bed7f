"""Scores of pictures: any number at once gives the same rows, any cut and order the same sums."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.evaluation.encodings import Coding
from transforms.evaluation.overlap import summary
from transforms.evaluation.scoring import COLUMNS, Masks, Scoring, score
from transforms.evaluation.tally import Tally
from transforms.failures import Failure
from transforms.sums import add, plain

CODING = Coding(4, ignore_ids=(255,))
SCORING = Scoring(CODING, CODING, boundary_width=1, panoptic=True)


def pictures(seed, count):
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        truth = np.kron(rng.integers(0, 5, (3, 4)), np.ones((4, 3), int)).astype(np.uint8)
        truth[truth == 4] = 255
        if rng.random() < 0.2:
            truth[:] = 255  # nothing to compare
        predicted = np.where(rng.random(truth.shape) < 0.7, truth, rng.integers(0, 6, truth.shape))
        confidence = rng.integers(0, 256, truth.shape).astype(np.uint8)
        found.append(score(Masks(predicted.astype(np.uint8), truth, confidence), SCORING, "x"))
    return found


def stored(tally):
    """Sums as a commit record holds them."""
    return json.loads(json.dumps(plain(tally.sums())))


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.lists(st.integers(1, 5), min_size=1, max_size=4), st.randoms())
def test_any_cut_in_any_order_gives_the_same_sums_and_rows(seed, cuts, order):
    found = pictures(seed, sum(cuts))
    whole = Tally(SCORING)
    rows = whole.add(found)
    parts, part_rows, begin = [], [], 0
    for count in cuts:
        tally = Tally(SCORING)
        part_rows += tally.add(found[begin : begin + count])
        parts.append(stored(tally))
        begin += count
    order.shuffle(parts)
    merged = {}
    for part in parts:
        merged = add(merged, part)
    assert plain(merged) == stored(whole)
    assert json.dumps(rows) == json.dumps(part_rows)


def test_a_row_has_the_columns_and_the_metrics_of_its_picture():
    found = [picture for picture in pictures(3, 12) if picture.joint[:4].sum()]
    for picture, row in zip(found, Tally(SCORING).add(found), strict=True):
        assert set(row) <= set(COLUMNS.names)
        expected = summary(picture.joint)
        for name in ("pixel_accuracy", "miou", "mdice", "mean_accuracy", "mprecision", "fwiou"):
            assert row[name] == pytest.approx(expected[name], rel=1e-12), name
        assert row["classes_evaluated"] == expected["classes_evaluated"]
        assert sum(row["true_pixels"]) == row["evaluated_pixels"]
        assert sum(row["class_pixels"]) == picture.counts[:4].sum()


def test_what_was_not_compared_has_no_metrics():
    truth = np.full((3, 3), 255, np.uint8)
    row = Tally(SCORING).add([score(Masks(np.zeros_like(truth), truth), SCORING, "x")])[0]
    assert row["miou"] is None and row["ignored_pixels"] == 9 and row["evaluated_pixels"] == 0


def test_strange_values_are_noted():
    truth, predicted = np.full((2, 3), 33, np.uint8), np.full((2, 3), 77, np.uint8)
    tally = Tally(SCORING)
    tally.add([score(Masks(predicted, truth), SCORING, "x")])
    sums = tally.sums()
    assert sums["label_values"] == {"33": 6} and sums["prediction_values"] == {"77": 6}


def test_sizes_that_differ():
    truth, predicted = np.zeros((4, 6), np.uint8), np.zeros((2, 3), np.uint8)
    with pytest.raises(Failure, match="3x2, its label 6x4"):
        score(Masks(predicted, truth), SCORING, "x")
    resizing = Scoring(CODING, CODING, resize=True)
    sure = np.full((2, 3), 9, np.uint8)
    scored = score(Masks(predicted, truth, sure), resizing, "x")
    assert scored.row["resized"] and scored.sums["confidence"][9] == 24
    with pytest.raises(Failure, match="of different runs"):
        score(Masks(predicted, predicted, truth), resizing, "x")


def test_without_labels():
    alone = Scoring(CODING, components=True)
    masks = np.zeros((4, 6), np.uint8)
    masks[0, 0], masks[2:, 2:] = 1, 2
    tally = Tally(alone)
    rows = tally.add([score(Masks(m), alone, "x") for m in (masks, np.zeros_like(masks))])
    assert rows[0]["components"] == 2 and rows[0]["largest_component_share"] == 8 / 9
    assert rows[0]["classes"] == [0, 1, 2] and rows[0]["class_pixels"] == [15, 1, 8]
    assert rows[1]["components"] == 0 and "largest_component_share" not in rows[1]
    sums = tally.sums()
    assert sums["components"] == {"2": 1, "0": 1} and sums["empty_images"] == 1
    assert sums["one_class_images"] == 1 and "joint" not in sums

"""Panoptic quality is panopticapi's, adds up exactly, and components are segments."""

import json
from pathlib import Path

import numpy as np
import pytest
from panoptic_reference import CLASSES, pair

from transforms.evaluation.panoptic import (
    UNIT,
    Segments,
    components,
    panoptic_counts,
    panoptic_quality,
)

REFERENCE = json.loads((Path(__file__).parents[2] / "panoptic_reference.json").read_bytes())


def segments(ids, classes):
    table = np.full(1 << 16, CLASSES)
    for number, class_id in classes.items():
        table[number] = class_id
    return Segments(ids, table[ids])


@pytest.mark.parametrize("expected", REFERENCE, ids=lambda row: row["seed"])
def test_quality_is_panopticapis(expected):
    truth, classes, predicted, predicted_classes = pair(expected["seed"])
    counts = panoptic_counts(
        segments(truth, classes), segments(predicted, predicted_classes), CLASSES
    )
    found = panoptic_quality(counts)
    for class_id in range(CLASSES):
        theirs = expected["counts"][str(class_id + 1)]
        assert counts[0, class_id] / UNIT == pytest.approx(theirs["iou"], abs=1e-11)
        assert counts[1:, class_id].tolist() == [theirs[k] for k in ("tp", "fp", "fn")]
        for name in ("pq", "sq", "rq"):
            by_class = expected["by_class"][str(class_id + 1)][name]
            assert found[name][class_id] == pytest.approx(by_class, abs=1e-9)
    for name in ("pq", "sq", "rq"):
        assert np.nanmean(found[name]) == pytest.approx(expected["average"][name], abs=1e-9)


def test_counts_of_pictures_add_up_in_any_order():
    parts = []
    for seed in range(6):
        truth, classes, predicted, predicted_classes = pair(seed)
        parts.append(
            panoptic_counts(
                segments(truth, classes), segments(predicted, predicted_classes), CLASSES
            )
        )
    forwards, backwards = (np.sum(order, axis=0) for order in (parts, parts[::-1]))
    assert (forwards == backwards).all()
    theirs = sum(row["counts"]["1"]["iou"] for row in REFERENCE)
    assert forwards[0, 0] / UNIT == pytest.approx(theirs, abs=1e-10)


def test_a_background_is_no_segment_and_no_excuse():
    codes = np.zeros((6, 6), np.uint8)
    codes[1:3, 1:3] = 1
    more = codes.copy()
    more[4:, 4:] = 1  # on the background: a false positive
    one, two = components(codes, skip=(0,)), components(more, skip=(0,))
    counts = panoptic_counts(one, two, 2, background=0)
    assert counts[:, 0].tolist() == [0, 0, 0, 0]
    assert counts[:, 1].tolist() == [UNIT, 1, 1, 0]
    assert panoptic_counts(two, one, 2, background=0)[:, 1].tolist() == [UNIT, 1, 0, 1]


def test_what_lies_on_ignored_pixels_is_excused():
    truth, predicted = np.full((4, 4), 2, np.uint8), np.zeros((4, 4), np.uint8)
    counts = panoptic_counts(components(truth), components(predicted), 2)
    assert not counts.any()
    assert np.isnan(panoptic_quality(counts)["pq"]).all()


def test_components_touch_at_corners():
    codes = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0], [2, 0, 2]], np.uint8)
    ids = components(codes, skip=(0,)).ids
    assert ids[0, 0] == ids[1, 1] == ids[0, 2]
    assert len(np.unique(ids)) == 4

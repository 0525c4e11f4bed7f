"""From confusion matrices to numbers and words, and to the page."""

import json
import re
from typing import Any

import numpy as np
import pytest
from scipy import stats

from pipeline import study_report, study_results

REAL, BETTER, WORSE = ([80, 82, 81], [90, 91, 93], [60, 62, 58])


def matrices(right: list[int], classes: int = 2) -> list[np.ndarray]:
    """Of 100 pictures of each class, so many are right, the others are taken for the next class."""
    eye = np.eye(classes, dtype=np.int64)
    return [n * eye + (100 - n) * np.roll(eye, 1, axis=1) for n in right]


def study(both: list[int], alone: list[int] | None = None, **more: Any) -> dict[str, Any]:
    tested = {"real": matrices(REAL), "real_and_augmented": matrices(both)}
    if alone:
        tested["augmented"] = matrices(alone)
    found = study_results.results("classifier", tested, matrices(WORSE), ["<b>one</b>", "two"])
    about = {"job": "study classifier", "level": 0.95, "seeds": [0, 1, 2], "steps": 1234}
    sets = {"examples": {"real": 1, "augmented": 2, "test": 3}, "test_pictures_trained_with": []}
    return about | sets | {"arms_left_out": {}} | found | more


@pytest.mark.parametrize(
    ("both", "answer", "words"),
    [
        (BETTER, "helps", "augmented data helps: +10.33 points of accuracy, 95 % interval +6.54"),
        (WORSE, "harms", "augmented data harms: -21.00 points"),
        ([80, 83, 81], "no difference shown", "no difference shown: +0.33 points"),
        (REAL, "no difference shown", "interval +0.00 to +0.00"),
    ],
)
def test_the_answer(both: list[int], answer: str, words: str) -> None:
    found = study(both)
    assert study_results.answer(found) == answer
    assert words in study_results.sentence(found, "classifier")


def test_differences_are_those_of_the_paired_t_test() -> None:
    found = study(BETTER, WORSE)
    for arm, values in (("real_and_augmented", BETTER), ("augmented", WORSE), ("gan_test", WORSE)):
        a, b = (np.asarray(x) / 100 for x in (values, REAL))
        expected = stats.ttest_rel(a, b).confidence_interval(0.95)
        accuracy = found["minus_real"][arm]["accuracy"]
        np.testing.assert_allclose([accuracy["low"], accuracy["high"]], expected)
        np.testing.assert_allclose(accuracy["by_seed"], a - b)
    assert found["gan_train"] == found["arms"]["augmented"]
    np.testing.assert_allclose(found["gan_train"]["accuracy"]["by_seed"], np.asarray(WORSE) / 100)
    np.testing.assert_allclose(found["classes"][0]["difference"]["mean"], 0.1033, atol=1e-4)


def test_a_segmenter_is_judged_by_its_iou() -> None:
    tested = {"real": matrices(REAL), "real_and_augmented": matrices(BETTER)}
    found = study_results.results("segmenter", tested, matrices(WORSE), ["a", "b"])
    assert found["metric"] == "mean_iou"
    iou = found["arms"]["real"]["mean_iou"]["by_seed"]
    np.testing.assert_allclose(iou, [n / (200 - n) for n in REAL])


def test_gan_train_and_gan_test_are_told_in_words() -> None:
    told = dict(study_results.readings(study(REAL, BETTER)))
    assert "alone teach more than the real ones" in told["GAN-train"]
    assert "worse than new real ones" in told["GAN-test"]
    assert "GAN-train" not in dict(study_results.readings(study(REAL)))


def test_a_class_without_pictures_has_no_numbers() -> None:
    tested = {arm: matrices(REAL, 3) for arm in ("real", "real_and_augmented")}
    for several in tested.values():
        for matrix in several:
            matrix[:] = np.pad(matrices([80])[0], (0, 1))
    found = study_results.results("classifier", tested, tested["real"], ["a", "b", "c"])
    assert found["classes"][2]["real"] is None and found["classes"][2]["difference"]["low"] is None
    assert found["arms"]["real"]["mean_f1"]["mean"] == pytest.approx(0.8)
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("alone", [None, BETTER])
def test_the_page(alone: list[int] | None) -> None:
    run = {
        "pixelmill": "0",
        "clock": {"created": 0},
        "notes": {"real": "<i>r", "augmented": "a", "test": "t"},
        "identity": {"settings": {"seed": 0}},
    }
    left_out = {} if alone else {"augmented": "it shows no two"}
    twice = [["test.png", "real", "real.png"]]
    fields = {"arms_left_out": left_out, "test_pictures_trained_with": twice}
    html = study_report.render(study(BETTER, alone, **fields), run)
    assert "Augmented data helps: +10.33 points of accuracy" in html
    assert "<b>one" not in html and "<i>r" not in html
    assert ("it shows no two" in html) == (alone is None)
    assert html.count("<svg") == 2 and "1,234 steps" in html and "real.png" in html
    assert not re.findall(r"<script|src=|href=", html)

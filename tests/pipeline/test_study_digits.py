"""`pixelmill study` on 20 real digits of each class: warped ones help, wrong labels harm."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from digits import split_digits, warped, write_labelled

from pipeline import cli

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SMALL = ["--augment", "none", "--batch_size", "64", "--width", "8", "--learning_rate", "0.005"]


def study(root: Path, copies: int, *more: str, wrong: bool = False) -> dict[str, Any]:
    """Of 200 real digits, so many warped copies of each, and 1,597 to test with."""
    real, labels, test, test_labels = split_digits(20)
    rng = np.random.default_rng(0)
    made = np.stack([warped(picture, rng) for picture in real for _ in range(copies)])
    made_labels = np.repeat(labels, copies)
    if wrong:
        made_labels = rng.permutation(made_labels)
    places = ["--real", write_labelled(root / "real", real, labels)]
    places += ["--augmented", write_labelled(root / "made", made, made_labels)]
    places += ["--test", write_labelled(root / "test", test, test_labels)]
    out = ["--output", str(root / "out")]
    assert cli.main(["study", "classifier", *places, *out, *SMALL, *more]) == 0
    found: dict[str, Any] = json.loads((root / "out" / "study.json").read_bytes())
    return found


def test_warped_digits_help(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = study(tmp_path, 20, "--epochs", "5", "--seeds", "4")
    assert found["answer"] == "helps"
    more = found["minus_real"]["real_and_augmented"]
    assert 0 < more["accuracy"]["low"] < more["accuracy"]["mean"] < 0.06
    assert more["mean_f1"]["low"] > 0
    assert found["gan_train"]["accuracy"]["mean"] > 0.9
    said = capsys.readouterr().out
    assert "augmented data helps: +" in said and "points of accuracy, 95 % interval +" in said


def test_wrong_labels_harm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = study(tmp_path, 4, "--epochs", "2", "--seeds", "3", wrong=True)
    assert found["answer"] == "harms"
    assert found["minus_real"]["real_and_augmented"]["accuracy"]["high"] < 0
    assert found["gan_train"]["accuracy"]["mean"] < 0.4  # one of ten is right by chance
    assert found["gan_test"]["accuracy"]["mean"] < 0.3
    assert "augmented data harms: -" in capsys.readouterr().out
    assert "wrongly labelled" in (tmp_path / "out" / "report.html").read_text()

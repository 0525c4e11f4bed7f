"""`pixelmill report`: of runs of any size, of two, of a training, of an evaluation."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from support import Segment
from synthetic_runs import HOSTILE, make_run, make_training

from pipeline import cli, run_files
from pipeline.charts import calibration, heat_map, nice_ticks
from pipeline.report_compared import chance, class_moves, drifts
from pipeline.report_scores import confusion_of_rows, number_text, title_of
from transforms.evaluation.drift import jensen_shannon


class _Tags(HTMLParser):
    """Names of all attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes.update(name for name, _ in attrs)


def _is_safe(path: Path) -> str:
    """The page's text, which is small, asks the network for nothing and has no foreign tags."""
    text = path.read_text()
    assert len(text) < 10_000_000
    assert not re.search(r"<script|<img src=x|url\(|@import|https?://", text)
    tags = _Tags()
    tags.feed(text)
    assert not {name for name in tags.attributes if name.startswith("on")}
    assert "49\u202e" not in text  # of {{7*7}}, had a name been a template
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(ids)
    return text


@pytest.mark.parametrize("images", [0, 1, 10, 5000])
def test_runs_of_any_size(tmp_path: Path, images: int) -> None:
    out = make_run(tmp_path, images)
    text = _is_safe(out / run_files.REPORT)
    assert f"<dd>{images:,}</dd>" in text
    assert ("The run is small enough" in text) == (images in (1,))
    (out / run_files.REPORT).unlink()
    assert cli.main(["report", str(out)]) == 0
    assert (out / run_files.REPORT).read_text() == text


def test_two_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = make_run(tmp_path / "b", 300, shift=4, pictures=tmp_path / "in")
    this = make_run(tmp_path / "a", 300, pictures=tmp_path / "in")
    assert cli.main(["report", str(this), str(other)]) == 0
    text = _is_safe(this / run_files.COMPARISON)
    for words in ("Segmentation comparison", "drifted from", "model.shift", "Of 297 images"):
        assert words in text
    assert text.count('alt="Where both differ in') == 8
    capsys.readouterr()
    assert cli.main(["verify", str(this)]) == 1  # its masks are made up
    assert f" {run_files.COMPARISON}" not in capsys.readouterr().out  # but the page is no stranger
    named = tmp_path / "named" / "page.html"
    assert cli.main(["report", str(this), str(this), "--output", str(named)]) == 0
    assert "The settings of both are the same" in named.read_text()
    assert 'class="level warn"' not in named.read_text()


def test_a_training(tmp_path: Path) -> None:
    out = make_training(tmp_path)
    assert cli.main(["report", str(out)]) == 0
    text = _is_safe(out / run_files.REPORT)
    for words in ("Mean IoU", "90.0%", "Confusion", "Losses", "25.0%"):
        assert words in text


@pytest.mark.slow
def test_an_evaluation(segment: Segment, photos: str, tmp_path: Path) -> None:
    for name, more in (("a", ()), ("b", ("--max_side", "24"))):
        assert segment(photos, tmp_path / name, *more) == 0
    places = ["--predictions", str(tmp_path / "a"), "--labels", str(tmp_path / "b" / "masks")]
    code = cli.main(["evaluate", *places, "--output", str(tmp_path / "out")])
    assert code == 0
    text = _is_safe(tmp_path / "out" / run_files.REPORT)
    for words in ("Worst by mean IoU", "95% between", "Confusion"):
        assert words in text
    assert text.count('alt="Label of') == text.count('alt="Where both differ in') == 32
    assert text.count('alt="Image ') == 32


def test_a_run_that_is_under_way(tmp_path: Path) -> None:
    out = make_run(tmp_path, 1500)
    for name in (run_files.METRICS, run_files.SUCCESS, "metrics/s-00001-of-00002.json"):
        (out / name).unlink()
    assert cli.main(["report", str(out)]) == 0
    assert "1 of 2 shards are done" in _is_safe(out / run_files.REPORT)


def test_what_cannot_be_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", str(tmp_path)]) == 2
    assert "holds no run of pixelmill" in capsys.readouterr().err
    run, training = make_run(tmp_path / "run", 1), make_training(tmp_path)
    assert cli.main(["report", str(run), str(training)]) == 2
    said = capsys.readouterr().err
    assert "only runs of one job can be compared" in said and "not as this version" not in said
    assert cli.main(["report", str(run), str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.startswith(f"pixelmill: {tmp_path}/none holds no run")
    folder = tmp_path / "mine"
    folder.mkdir()
    assert cli.main(["report", str(run), "--output", str(folder)]) == 2
    assert "is a folder; name a file" in capsys.readouterr().err
    assert cli.main(["report", str(run), "--output", str(folder / "page.html")]) == 0
    assert [path.name for path in folder.iterdir()] == ["page.html"]
    legend = run / run_files.LEGEND
    whole = legend.read_bytes()
    legend.write_bytes(whole[: len(whole) // 2])
    assert cli.main(["report", str(run)]) == 2
    assert "not as this version writes them" in capsys.readouterr().err
    legend.write_bytes(whole)
    (run / run_files.METRICS).write_text("{}")
    assert cli.main(["report", str(run)]) == 2
    assert "not as this version writes them" in capsys.readouterr().err


def test_drift_by_chance_is_none() -> None:
    rng = np.random.default_rng(1)
    for n in (30, 300, 3000):
        found = [
            jensen_shannon(*(np.bincount(rng.integers(0, 16, n), minlength=16) for _ in range(2)))
            for _ in range(200)
        ]
        assert 0.8 < np.mean(found) / chance(16, n, n) < 1.25


def test_classes_are_paired_by_name() -> None:
    def metrics(rows: list[tuple[int, str, float]]) -> dict[str, object]:
        classes = [{"id": i, "name": name, "pixel_share": share} for i, name, share in rows]
        return {"metrics": {"classes": classes}, "sums": {}, "records": {"written": 9}}

    this, other = metrics([(0, "a", 0.5), (1, "b", 0.5)]), metrics([(0, "b", 0.9), (1, "c", 0.1)])
    moves = class_moves(this, other, {0: "#000000"})
    assert [(m.name, round(m.change, 9)) for m in moves] == [("a", 0.5), ("b", -0.4), ("c", -0.1)]
    (drift,) = drifts(this, other, moves)
    assert drift.level == "bad" and "a +50.0, b -40.0, c -10.0" in drift.text


def test_words_and_ticks() -> None:
    assert [title_of(n) for n in ("mean_iou", "miou", "pixel_accuracy")] == [
        *("Mean IoU", "Mean IoU", "Pixel accuracy"),
    ]
    assert number_text("iou", None) == number_text("iou", float("nan")) == "-"
    assert nice_ticks(0, 0.93)[-1] >= 0.93 and nice_ticks(0, 0)[-1] >= 1
    for high in (1e-6, 0.3, 7, 123456):
        ticks = nice_ticks(0, high)
        assert 3 <= len(ticks) <= 6 and ticks[0] == 0 and ticks[-1] >= high
    found = confusion_of_rows(["a", HOSTILE], [[3, 1], [0, 0]])
    assert found is not None and found.worst == [("a", HOSTILE, 0.25)]
    assert "<script" not in heat_map([[3, 1], [0, 0]], ["a", HOSTILE], HOSTILE)
    assert calibration([(0.5, 0.4, 9), (0.7, 0.1, 0)], "").count("<circle") == 1

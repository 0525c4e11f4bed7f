"""The report of small runs that the project's own sink wrote."""

import base64
import dataclasses
import html
import io
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from pipeline import legends, plots, run_files
from pipeline.gallery import Gallery
from pipeline.report import write_report
from pipeline.report_evaluated import EvaluatedGallery, evaluated_sheets
from pipeline.report_parts import busy_seconds, contact_sheets, verdict
from transforms import pack, segment
from transforms.clock import Clock
from transforms.decode import DecodePolicy
from transforms.failures import Failure
from transforms.feature_names import FeatureNames
from transforms.formats.tfrecord import write_record
from transforms.inputs import ImageFile, Plan, Shard
from transforms.png import encode_png
from transforms.records import Encoded, Record, Result
from transforms.shard_report import ShardReport, Totals
from transforms.sink import Sink

HOSTILE = "<script>alert(1)</script>\"' onerror=x"
HEIGHT, WIDTH = 30, 40
VOID = {"meta", "img", "br"}
SEEN = "What can be seen of "
BROKEN = 1  # index of the record that fails in every shard


class Page(HTMLParser):
    """Checks that tags are balanced, and collects them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def pictures(self) -> list[str]:
        """Alternative texts of the contact sheets; `failed` has those of failed records."""
        alts = [str(attributes["alt"]) for attributes in self.attributes("img")]
        return [alt for alt in alts if not alt.startswith(SEEN)]

    @property
    def failed(self) -> list[str]:
        alts = [str(attributes["alt"]) for attributes in self.attributes("img")]
        return [alt for alt in alts if alt.startswith(SEEN)]


def _picture(value: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.full((HEIGHT, WIDTH, 3), value % 256, np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _mask(value: int) -> bytes:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:, : value % WIDTH + 1] = 1
    return encode_png(mask)


def _result(value: int) -> Result:
    histogram = np.bincount([200 + value % 50], minlength=256) * HEIGHT * WIDTH
    return Result(
        outputs={"masks": Encoded(_mask(value), "png")},
        row={"width": WIDTH, "height": HEIGHT},
        sums={
            "pixels": HEIGHT * WIDTH,
            "class_pixels": np.array([900, 300, 0]),
            "class_images": np.array([1, 1, 0]),
            "one_class_images": 0,
            **dict.fromkeys(("confidence", "entropy", "margin", "brightness"), histogram),
            "widths": {str(WIDTH): 1},
            "heights": {str(HEIGHT): 1},
            "formats": {"PNG": 1},
        },
        rank=0.5 + value / 1000,
    )


def _file_shards(folder: Path, count: int, size: int) -> list[Shard]:
    folder.mkdir()
    shards = []
    for number in range(count):
        files = []
        for i in range(size):
            name = f"{number}-{i:02d} <b>.png"
            (folder / name).write_bytes(_picture(10 * i))
            files.append(ImageFile(name, name.removesuffix(".png"), 100))
        shards.append(Shard(f"s-{number:05d}-of-{count:05d}", str(folder), 100, tuple(files)))
    return shards


def _record_shard(folder: Path, size: int) -> Shard:
    folder.mkdir()
    path = folder / "in.tfrecord"
    with path.open("wb") as file:
        for i in range(size):
            example = tf.train.Example()
            example.features.feature["img"].bytes_list.value.append(_picture(10 * i))
            write_record(file, example.SerializeToString())
    return Shard("in", str(path), path.stat().st_size)


def _run(job: str, **identity: Any) -> run_files.Run:
    identity = {
        "input": {"kind": "images", "files": 3, "shards": 1, "bytes": 300},
        "decode": {"max_pixels": 10**6, "alpha": "drop", "draft_px": None},
        "features": {"image": "img", "key": "image/filename"},
        **identity,
    }
    return run_files.Run(job, identity, {"input": HOSTILE, "model": f"/models/{HOSTILE}"})


def _finish(out: Path, reports: list[ShardReport]) -> None:
    totals = Totals()
    for report in reports:
        totals = totals.merge(Totals.of(report, max_failed_fraction=0.01))
    run_files.finish(totals, str(out))


def _begin(out: Path, run: run_files.Run, shards: list[Shard]) -> None:
    kind = "tfrecord" if all(shard.is_examples for shard in shards) else "images"
    run_files.begin(str(out), run, Plan(tuple(shards), kind), overwrite=False)


def _segmented(out: Path, shards: list[Shard], size: int) -> None:
    """A finished run of job "segment"; one record of each shard failed."""
    run = _run("segment", model={"fingerprint": "0123456789abcdef", "kind": "logits"})
    _begin(out, run, shards)
    legends.write_legend(str(out), ["ground", HOSTILE, "never"], ["#000000", "#ff0000", "#00ff00"])
    sink = Sink(
        str(out), "masks", "tfrecord" if shards[0].is_examples else "folder", segment.COLUMNS
    )
    reports = []
    for number, shard in enumerate(shards):
        with sink.open(shard, Clock()) as writer:
            for i in range(size):
                file = shard.files[i] if shard.files else None
                record = Record(
                    index=i,
                    key=file.path if file else f"in/{i:08d}",
                    source="",
                    bytes_in=100,
                    output_name=file.output_name if file else "",
                )
                failure = Failure("decode", "truncated", f"message of {HOSTILE}")
                writer.write(record, failure if i == BROKEN else _result(i + size * number))
            reports.append(writer.commit())
    _finish(out, reports)


def _page(out: Path) -> Page:
    data = (out / run_files.REPORT).read_bytes()
    assert len(data) < 10_000_000
    return Page(data.decode())


@pytest.fixture(scope="module")
def segmented(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("segmented")
    _segmented(folder / "out", _file_shards(folder / "in", count=2, size=20), size=20)
    return folder


def test_tells_everything(segmented: Path) -> None:
    page = _page(segmented / "out")
    for words in (
        "Segmentation report",
        "Complete",
        "2 of 40 images failed, within the budget",
        "0123456789ab",
        "Images read 40 Masks written 38 Failed 2 5.00% of those read",
        "Typical",
        "Least confident",
        "Random",
        "Not found in any image: never",
        "75.00%",
        "25.00%",
        "Width, px 40 40 40 40 40",
        "truncated the file ends before the picture does 2 5.00%",
    ):
        assert words in page.text
    assert len(page.pictures) == 3 * 8 * 3 and len(page.failed) == 2
    assert len(page.attributes("svg")) >= 4 + 2


def test_shows_the_mask_of_the_right_record(tmp_path: Path) -> None:
    shard = _record_shard(tmp_path / "in", 4)
    _segmented(tmp_path / "out", [shard], 4)
    page = _page(tmp_path / "out")
    assert sorted(page.pictures[::3]) == [f"Image in/{i:08d}" for i in (0, 2, 3)]
    shown = [found for found in page.attributes("img") if not str(found["alt"]).startswith(SEEN)]
    uris = [str(found["src"]) for found in shown]
    for alt, image, mask in zip(page.pictures[::3], uris[::3], uris[1::3], strict=True):
        index = int(alt[-8:])
        assert abs(int(_pixels(image)[0, 0, 0]) - 10 * index) <= 2
        red = _pixels(mask)[0, :, 0] == 255
        assert round(WIDTH * red.mean()) == index + 1


def _pixels(uri: str) -> np.ndarray[Any, Any]:
    data = base64.b64decode(uri.partition("base64,")[2])
    return np.asarray(Image.open(io.BytesIO(data)))


def test_escapes_names_and_messages(segmented: Path) -> None:
    page = _page(segmented / "out")
    assert page.attributes("script") == [] and page.attributes("b") == []
    assert page.text.count(HOSTILE) >= 4  # input, model, class, message
    assert not any(name.startswith("on") for _, found in page.tags for name in found)


def test_asks_the_network_for_nothing(segmented: Path) -> None:
    text = (segmented / "out" / run_files.REPORT).read_text()
    for tag, attributes in Page(text).tags:
        for name in ("src", "href", "srcset", "poster", "action"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:image/")), (tag, value)
    assert not re.search(r"url\(|@import|https?://", text)


def test_a_colour_cannot_carry_css(tmp_path: Path) -> None:
    shards = _file_shards(tmp_path / "in", count=1, size=3)
    _segmented(tmp_path / "out", shards, 3)
    legend = tmp_path / "out" / legends.LEGEND
    legend.write_text(legend.read_text().replace("#ff0000", "red;background:url(//x)"))
    write_report(str(tmp_path / "out"))
    assert "url(" not in (tmp_path / "out" / run_files.REPORT).read_text()


def test_is_accessible(segmented: Path) -> None:
    page = _page(segmented / "out")
    assert page.attributes("html")[0]["lang"] == "en"
    assert all(attributes.get("alt") for attributes in page.attributes("img"))
    assert all(attributes.get("scope") for attributes in page.attributes("th"))
    ids = [str(found["id"]) for _, found in page.tags if "id" in found]
    assert len(ids) == len(set(ids))
    assert {str(found["href"])[1:] for found in page.attributes("a")} <= set(ids)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and all(b - a <= 1 for a, b in pairwise(levels))


def test_pictures_that_are_gone(tmp_path: Path) -> None:
    shards = _file_shards(tmp_path / "in", count=1, size=4)
    out = tmp_path / "out"
    _segmented(out, shards, 4)
    first, _, third, fourth = (file.path for file in shards[0].files)
    (tmp_path / "in" / first).unlink()
    (tmp_path / "in" / third).write_bytes(b"")
    (out / "masks" / fourth).write_bytes(b"no picture")
    write_report(str(out))
    page = _page(out)
    assert "The image cannot be shown" in page.text and "No such file" in page.text
    assert "got 0 bytes" in page.text and "The mask cannot be shown" in page.text
    assert sorted(page.pictures) == sorted(
        [f"Mask of {first}", f"Mask of {third}", f"Image {fourth}"]
    )


@pytest.mark.parametrize(
    "gone", ["in/in.tfrecord", "out/masks/in.tfrecord", "out/records/in.parquet"]
)
def test_shards_that_are_gone(tmp_path: Path, gone: str) -> None:
    _segmented(tmp_path / "out", [_record_shard(tmp_path / "in", 3)], 3)
    (tmp_path / gone).unlink()
    write_report(str(tmp_path / "out"))
    assert "cannot be shown" in _page(tmp_path / "out").text


def test_damaged_records_of_masks(tmp_path: Path) -> None:
    _segmented(tmp_path / "out", [_record_shard(tmp_path / "in", 3)], 3)
    path = tmp_path / "out/masks/in.tfrecord"
    path.write_bytes(b"x" * path.stat().st_size)
    (tmp_path / "out/records/in.parquet").write_bytes(b"no parquet")
    write_report(str(tmp_path / "out"))
    assert "cannot be shown" in _page(tmp_path / "out").text


def test_no_records(tmp_path: Path) -> None:
    _segmented(tmp_path / "out", [_record_shard(tmp_path / "in", 0)], 0)
    page = _page(tmp_path / "out")
    assert "the input held no images" in page.text and "No image failed" in page.text
    assert page.pictures == []


@pytest.mark.parametrize("with_masks", [True, False])
def test_pack(tmp_path: Path, with_masks: bool) -> None:
    shards = _file_shards(tmp_path / "in", count=1, size=3)
    run = _run("pack")
    _begin(tmp_path / "out", run, shards)
    sink = Sink(str(tmp_path / "out"), "images", "tfrecord", pack.COLUMNS)
    with sink.open(shards[0], Clock()) as writer:
        for i, file in enumerate(shards[0].files):
            outputs = {"images": Encoded(_picture(i), "png")}
            if with_masks:
                outputs["masks"] = Encoded(_mask(i), "png")
            result = Result(outputs, {}, {"formats": {"PNG": 1}, "masks": int(with_masks)})
            writer.write(Record(i, file.path, "", 100), result)
        report = writer.commit()
    _finish(tmp_path / "out", [report])
    page = _page(tmp_path / "out")
    assert "Packing report" in page.text and "Images packed 3" in page.text
    assert ("3 with a mask" in page.text) == with_masks
    assert len(page.pictures) == (9 if with_masks else 3)


def test_shards_with_errors_and_over_budget(tmp_path: Path) -> None:
    shards = _file_shards(tmp_path / "in", count=2, size=3)
    _segmented(tmp_path / "out", shards, 3)
    report = ShardReport(shards[0].name, read=9, failed_by_reason={"corrupt": 9})
    stopped = ShardReport(shards[1].name, error=f"OSError: {HOSTILE}")
    _finish(tmp_path / "out", [report, stopped])
    page = _page(tmp_path / "out")
    assert "Not complete: 1 of 2 shards are done" in page.text
    assert "Give the same command again" in page.text
    assert "Over the budget of failures: 1" in page.text
    assert f"OSError: {HOSTILE}" in page.text


def test_stays_small_with_many_classes_and_long_names(segmented: Path, tmp_path: Path) -> None:
    for name in (run_files.RUN, run_files.PLAN):
        (tmp_path / name).write_bytes((segmented / "out" / name).read_bytes())
    legends.write_legend(str(tmp_path), [f"class {i}" for i in range(20_000)], [])
    metrics = run_files.read_metrics(str(segmented / "out"))
    row = metrics["metrics"]["classes"][0]
    metrics["metrics"]["classes"] = [{**row, "id": i} for i in range(20_000)]
    for row in metrics["highlights"]["sample"] + metrics["highlights"]["unsure"]:
        row[3] = "k" * 100_000
    (tmp_path / run_files.METRICS).write_text(json.dumps(metrics))
    write_report(str(tmp_path))
    assert (tmp_path / run_files.REPORT).stat().st_size < 2_000_000
    assert "The 500 most frequent are shown" in _page(tmp_path).text


def test_a_page_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / run_files.METRICS).write_text("<script>")
    write_report(str(tmp_path))
    text = (tmp_path / run_files.REPORT).read_text()
    assert "could not be made" in text and "<script>" not in text


def _metrics(**changes: dict[str, int]) -> dict[str, Any]:
    metrics = run_files.metrics_of(Totals(shards=2, read=9, written=9), 2, None)
    return {
        name: {**value, **changes.get(name, {})}
        for name, value in metrics.items()
        if isinstance(value, dict)
    } | {"complete": metrics["complete"]}


def test_verdicts() -> None:
    assert verdict(_metrics()).headline == "Complete"
    assert verdict(_metrics(shards={"over_budget": 1})).level == "warn"
    assert verdict(_metrics(shards={"committed": 1, "over_budget": 1})).level == "bad"
    assert verdict(_metrics(records={"over_budget": 1})).level == "warn"
    lost = {**_metrics(records={"read": 10}), "complete": False}
    assert "do not add up" in verdict(lost).headline


def test_contact_sheets_choose_by_rank() -> None:
    sample = [[f"{i:012x}", "s", i, f"k{i}", i / 100] for i in range(24)]
    unsure = [[i / 100, "s", i, f"k{i}", i / 100] for i in range(24)]
    typical, least, drawn = contact_sheets({"sample": sample, "unsure": unsure, "failures": {}})
    assert {entry.place[1] for entry in typical.entries} == set(range(8, 16))
    assert [entry.place[1] for entry in least.entries] == list(range(8))
    assert [entry.place[1] for entry in drawn.entries] == list(range(8))
    unranked = [[*row[:4], None] for row in sample]
    assert [s.title for s in contact_sheets({"sample": unranked, "unsure": []})] == ["Random"]


@pytest.mark.parametrize(
    ("by", "measure", "worst"),
    [
        ("miou", "Mean IoU", ["Worst by mean IoU"]),
        ("mean_confidence", "Mean confidence", ["Worst by confidence"]),
    ],
)
def test_sheets_of_an_evaluation_say_what_chose_them(
    by: str, measure: str, worst: list[str]
) -> None:
    highlights = {
        "sample": [[f"{i:012x}", "s", i, f"k{i}", i / 100] for i in range(24)],
        "unsure": [[i / 100, "s", i, f"k{i}", i / 100] for i in range(24)],
    }
    row = {"shard": "s", "index": 3, "key": "k3", "value": 0.1}
    metrics = {"metrics": {"worst": {by: [row]}}, "highlights": highlights}
    sheets = evaluated_sheets(metrics)
    assert [sheet.title for sheet in sheets] == [*worst, "Typical", "Random"]
    assert sheets[1].text.startswith(f"{measure} nearest to 11.5%")


def test_a_label_that_is_gone_is_missing_alone(tmp_path: Path) -> None:
    (shard,) = _file_shards(tmp_path / "in", count=1, size=2)
    (tmp_path / "in" / "0.mask.png").write_bytes(_mask(3))
    files = [dataclasses.replace(file, mask=f"{i}.mask.png") for i, file in enumerate(shard.files)]
    shard = dataclasses.replace(shard, files=tuple(files))
    gallery = Gallery(
        str(tmp_path), "evaluate", {shard.name: shard}, FeatureNames(), DecodePolicy(), {}
    )
    identity = {"model": {}, "scoring": {"labels": {"ignore_ids": [255]}}}
    shown = EvaluatedGallery(str(tmp_path), identity, {}, gallery)
    cells = shown.cells({(shard.name, 0), (shard.name, 1)})
    assert [cell.kind for cell in cells[shard.name, 0]] == ["image", "label", "overlay"]
    image, label = cells[shard.name, 1]
    assert image.uri and "1.mask.png" in label.problem


def test_busy_time_leaves_pauses_out(tmp_path: Path) -> None:
    spans = {"a": (0, 10), "b": (5, 12), "c": (100, 103), "d": (101, 102)}
    (tmp_path / "metrics").mkdir()
    for name, (start, end) in spans.items():
        report = ShardReport(name, clock={"started": start, "committed": end})
        (tmp_path / "metrics" / f"{name}.json").write_bytes(report.to_json())
    plan = Plan(tuple(Shard(name, name, 0) for name in [*spans, "missing"]), "tfrecord")
    assert busy_seconds(str(tmp_path), plan) == 15


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0.0%"), (0.0001, "<0.1%"), (0.1234, "12.3%"), (0.99999, ">99.9%"), (1, "100.0%")],
)
def test_percent(share: float, text: str) -> None:
    assert plots.percent_text(share) == text


def test_numbers_as_text() -> None:
    assert plots.size_text(950) == "950 B" and plots.size_text(31_566_000) == "31.6 MB"
    assert plots.size_text(999_999) == "1.0 MB"
    assert [plots.seconds_text(s) for s in (0.144, 45.6, 200, 7500)] == [
        *("0.14 s", "45.6 s", "3 min 20 s", "2 h 5 min"),
    ]
    assert plots.count_text(1234567) == "1,234,567"


def test_histogram() -> None:
    assert plots.rebin(list(range(8)), 4) == [1, 5, 9, 13]
    assert plots.rebin([3], 64) == [3]
    svg = str(plots.histogram([0] * 255 + [7], 1.0, 1.0, HOSTILE))
    assert svg.count('class="bin"') == 1 and "0.984 to 1: 100%" in html.unescape(svg)
    assert "<script>" not in svg
    assert 'class="bin"' not in plots.histogram([0] * 256, 1.0, float("nan"), "nothing")

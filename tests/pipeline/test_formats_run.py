"""Whole runs in every format of shards: the same results as with TFRecord."""

import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from format_examples import member, shard_file
from format_examples import usual as usual_example
from support import Segment

from models import shipped
from pipeline import cli, command_line, train_setup
from transforms.formats import folder
from transforms.formats.plain import bytes_feature, parsed, serialized
from transforms.formats.registry import WRITERS, read_shard_file
from transforms.png import encode_png
from transforms.sink import read_written
from transforms.training_data import Example, read_examples

FORMATS = [
    "tar",
    "parquet",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("tar.gz", "array_record")),
]


def examples(path: Path, name: str = "tfrecord") -> Iterator[bytes]:
    for example in read_shard_file(str(path), name):
        assert isinstance(example, bytes), example
        yield example


def converted(packed: str, folder: Path, name: str) -> str:
    """The same shards in another format."""
    folder.mkdir()
    for path in sorted(Path(packed).iterdir()):
        with (folder / f"{path.stem}{WRITERS[name].extension}").open("wb") as file:
            writer = WRITERS[name].open_writer(file, str(folder))
            for example in examples(path):
                writer.write(example)
            writer.finish()
    return str(folder)


@pytest.fixture(scope="module")
def usual(packed: str, segment: Segment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("usual")
    assert segment(packed, out, "--confidence_map") == 0
    return out


@pytest.mark.parametrize("name", FORMATS)
def test_segment_reads_it(
    packed: str, usual: Path, segment: Segment, tmp_path: Path, name: str
) -> None:
    source = converted(packed, tmp_path / "in", name)
    more = ["--confidence_map", "--output_format=tfrecord"]
    assert segment(source, tmp_path / "out", *more) == 0
    for path in sorted((usual / "masks").iterdir()):
        assert (tmp_path / "out" / "masks" / path.name).read_bytes() == path.read_bytes()
        rows = [
            pq.read_table(run / "records" / f"{path.stem}.parquet").drop_columns(["source"])
            for run in (usual, tmp_path / "out")
        ]
        assert rows[0].equals(rows[1])


@pytest.mark.parametrize("name", [*FORMATS, "folder"])
def test_segment_writes_it_and_its_readers_read_it(
    packed: str, usual: Path, segment: Segment, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "out"
    assert segment(packed, out, "--confidence_map", f"--output_format={name}") == 0
    for path in sorted((usual / "masks").iterdir()):
        if name == "folder":
            assert len(list((out / "masks" / path.stem).iterdir())) == 2 * 10 + 1
        else:
            assert (out / "masks" / f"{path.stem}{WRITERS[name].extension}").is_file()
        assert list(read_written(str(out), "masks", path.stem)) == list(examples(path))
    assert cli.main(["verify", str(out)]) == 0
    page = (out / "report.html").read_text()
    assert page.count("data:image") == (usual / "report.html").read_text().count("data:image") > 0
    assert "cannot be shown" not in page


def test_pack_writes_folders_that_all_jobs_read(
    photos: str, packed: str, usual: Path, segment: Segment, tmp_path: Path
) -> None:
    """TFRecord, folder, TFRecord: the same records, and the same masks."""
    out = tmp_path / "out"
    arguments = ["--images_per_shard=10", "--output_format=folder", f"--output={out}"]
    assert cli.main(["pack", f"--input={photos}", *arguments]) == 0
    for path in sorted(Path(packed).iterdir()):
        assert list(read_written(str(out), "images", path.stem)) == list(examples(path))
    assert cli.main(["verify", str(out)]) == 0

    again = ["--images_per_shard=10", f"--output={tmp_path / 'again'}"]
    assert cli.main(["pack", f"--input={out / 'images'}", *again]) == 0
    found = sorted((tmp_path / "again" / "images").iterdir())
    pairs = zip(sorted(Path(packed).iterdir()), found, strict=True)
    for one, other in pairs:
        assert list(examples(one)) == list(examples(other))

    more = ["--files_per_shard=10", "--output_format=tar"]
    assert segment(str(out / "images"), tmp_path / "masks", *more) == 0
    masks = [
        example
        for path in sorted((tmp_path / "masks" / "masks").iterdir())
        for example in examples(path, "tar")
    ]
    assert len(masks) == 60


@pytest.mark.parametrize("name", [*FORMATS, "folder"])
def test_what_failed_is_tried_again_and_merged(
    packed: str, usual: Path, segment: Segment, tmp_path: Path, name: str
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(packed, source)
    first, second = sorted(source.iterdir())[:2]
    data = bytearray(first.read_bytes())
    data[len(data) // 2] ^= 1
    first.write_bytes(data)
    second.write_bytes(second.read_bytes()[:-2500])
    more = ["--confidence_map", f"--output_format={name}"]
    assert segment(str(source), out, *more) == 1, "a shard has lost its rest"
    for path in (first, second):
        shutil.copy(f"{packed}/{path.name}", path)
    assert segment(str(source), out, *more, "--retry_failed") == 0
    for path in sorted((usual / "masks").iterdir()):
        assert list(read_written(str(out), "masks", path.stem)) == list(examples(path))
    assert cli.main(["verify", str(out)]) == 0


@pytest.mark.parametrize("name", [*FORMATS, "folder"])
def test_evaluate_and_export_read_a_run_of_it(
    packed: str, usual: Path, segment: Segment, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "out"
    assert segment(packed, out, "--confidence_map", f"--output_format={name}") == 0
    scores = ["--labels", str(usual / "masks"), f"--output={tmp_path / 'scores'}"]
    label = "--label_feature=image/segmentation/class/encoded"
    assert cli.main(["evaluate", "--predictions", str(out), *scores, label]) == 0
    found = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    assert found["metrics"]["miou"] == 1
    assert found["records"]["read"] == 60
    assert found["metrics"]["calibration_error"] is not None
    if name == "tar":  # all are read by one function
        for run, place in ((usual, "a"), (out, "b")):
            arguments = ["--format", "hf_imagefolder", str(run), str(tmp_path / place)]
            assert cli.main(["export", *arguments]) == 0
        a, b = (
            {path.relative_to(root): path.read_bytes() for path in root.rglob("*.png")}
            for root in (tmp_path / "a", tmp_path / "b")
        )
        assert a == b
        assert len(a) > 60


@pytest.mark.parametrize("name", FORMATS)
def test_generate_writes_it(tmp_path: Path, name: str) -> None:
    model = os.path.join(os.path.dirname(shipped.__file__), "digits_generator")
    arguments = ["generate", "--model", model, "--per_class=2", "--images_per_shard=16"]
    for form in ("tfrecord", name):
        out = tmp_path / form
        assert cli.main([*arguments, f"--output={out}", f"--output_format={form}"]) == 0
        assert "cannot be shown" not in (out / "report.html").read_text()
    for path in sorted((tmp_path / "tfrecord" / "images").iterdir()):
        found = list(read_written(str(tmp_path / name), "images", path.stem))
        assert found == list(examples(path))
    assert cli.main(["verify", str(tmp_path / name)]) == 0


def test_a_run_keeps_its_format(packed: str, segment: Segment, tmp_path: Path) -> None:
    assert segment(packed, tmp_path, "--output_format=tar") == 0
    assert segment(packed, tmp_path, "--output_format=tar") == 0
    assert segment(packed, tmp_path, "--output_format=parquet") == 2
    assert segment(packed, tmp_path) == 2


def test_a_hostile_archive_costs_its_rows(
    packed: str, segment: Segment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = Path(converted(packed, tmp_path / "in", "tar"))
    first = sorted(good.iterdir())[0]
    first.write_bytes(
        member("../../evil.png", b"x")
        + member("link.png", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        + first.read_bytes()
    )
    out = tmp_path / "out"
    more = ["--max_failed_fraction=0.2", "--output_format=folder"]
    assert segment(str(good), out, *more) == 0
    rows = pq.read_table(out / "records").to_pylist()
    failed = [(row["reason"], row["message"]) for row in rows if row["status"] == "failed"]
    assert [reason for reason, _ in failed] == ["bad_record", "bad_record"]
    assert "leads out of the archive" in failed[0][1]
    assert "a symbolic link" in failed[1][1]
    assert len(rows) == 62
    outside = [path for path in tmp_path.rglob("*") if "evil" in path.name]
    assert outside == []


@pytest.mark.parametrize("name", [*WRITERS, "folder"])
@pytest.mark.parametrize("kind", ["segmenter", "classifier"])
def test_training_reads_masks_and_labels_of_it(tmp_path: Path, name: str, kind: str) -> None:
    masks = [np.full((4, 4), index % 3, np.uint8) for index in range(4)]
    made = [
        {
            **parsed(usual_example(index)),
            "image/segmentation/class/encoded": bytes_feature([encode_png(mask)]),
        }
        for index, mask in enumerate(masks)
    ]
    if name == "folder":
        lines = []
        for index, features in enumerate(made):
            files, line = folder.lay_out(features, "image/encoded", f"{index:06d}")
            for path, data in files.items():
                (tmp_path / path).write_bytes(data)
            lines.append(folder.to_line(line))
        (tmp_path / folder.TABLE).write_bytes(b"".join(lines))
    else:
        form = WRITERS[name]
        path = tmp_path / f"x{form.extension}"
        path.write_bytes(shard_file(form.open_writer, map(serialized, made), tmp_path))
    flags = command_line.parser().parse_args(
        ["train", kind, f"--input={tmp_path}", f"--output={tmp_path / 'out'}"]
    )
    plan, reading = train_setup.plan_training(train_setup.checked(flags), str(tmp_path / "out"))
    with ThreadPoolExecutor(1) as pool:
        found = list(read_examples(plan.shards[0], reading, pool, lambda _: True))
    for index, (record, read) in enumerate(found):
        assert record.key == f"left/photo {index}.v2.jpg"
        assert isinstance(read, Example)
        if kind == "segmenter":
            assert read.mask is not None
            assert (read.mask == masks[index]).all()
        else:
            assert read.label == index % 3
    assert len(found) == 4

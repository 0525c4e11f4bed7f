"""Which files of a folder are shards of which format."""

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from transforms.formats import parquet
from transforms.inputs import Plan, plan_input
from transforms.listing import InputError
from transforms.shard_names import format_of
from transforms.sources import read_shard


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.tar", "tar"),
        ("a.tar.gz", "tar"),
        ("a.tgz", "tar"),
        ("a.parquet", "parquet"),
        ("a-00000-of-00002.tar", "tar"),
        ("a.tar-00000-of-00002", "tar"),
        ("train.parquet-00000-of-00002", "parquet"),
        ("train-00000-of-00002", "tfrecord"),
        ("a.tfrecord.gz", "tfrecord"),
        ("a.tar.bz2", None),
        ("tar", None),
    ],
)
def test_formats_by_name(name: str, form: str | None) -> None:
    assert format_of(name) == form


def touch(folder: Path, *names: str) -> str:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return str(folder)


def test_shards_of_a_format_are_planned_with_it(tmp_path: Path) -> None:
    plan = plan_input(touch(tmp_path, "b/x.tar.gz", "a-00000-of-00001.tar"))
    assert plan.kind == "tar"
    assert plan.is_examples
    assert [(s.name, s.format) for s in plan.shards] == [
        ("a-00000-of-00001", "tar"),
        ("b/x", "tar"),
    ]
    assert Plan.from_lines(plan.to_lines()) == plan


def test_tables_beside_shards_and_images_are_left_out(tmp_path: Path) -> None:
    """img2dataset writes them so, and a run of pixelmill itself."""
    plan = plan_input(touch(tmp_path, "00000.tar", "00000.parquet", "00000_stats.json"))
    assert [shard.root for shard in plan.shards] == [f"{tmp_path}/00000.tar"]
    assert plan.ignored == ("00000.parquet", "00000_stats.json")
    images = plan_input(touch(tmp_path / "i", "a.jpg", "metadata.parquet"))
    assert images.kind == "images"


def test_tables_alone_are_the_input(tmp_path: Path) -> None:
    assert plan_input(touch(tmp_path, "a.parquet", "notes.txt")).kind == "parquet"


def test_several_formats_are_refused_and_one_can_be_named(tmp_path: Path) -> None:
    folder = touch(tmp_path, "a.tar", "b.tfrecord", "c.parquet")
    with pytest.raises(InputError, match=r"both tar archives .*TFRecord files.*input_format"):
        plan_input(f"{folder}/*")
    for form in ("tar", "tfrecord", "parquet"):
        (shard,) = plan_input(folder, input_format=form).shards
        assert shard.format == form


def test_a_glob_of_any_names_is_what_the_flag_says(tmp_path: Path) -> None:
    folder = touch(tmp_path, "shard.0", "shard.1")
    assert plan_input(f"{folder}/shard.*", input_format="tar").kind == "tar"
    assert plan_input(f"{folder}/shard.*", input_format="folder").kind == "images"
    with pytest.raises(InputError, match="of --input_format=parquet"):
        plan_input(folder, input_format="parquet")


def test_numbered_names(tmp_path: Path) -> None:
    folder = touch(tmp_path, "x-00000-of-00002.tar", "x-00001-of-00002.tar")
    assert len(plan_input(f"{folder}/x.tar@2").shards) == 2
    assert len(plan_input(f"{folder}/x@2").shards) == 2


def test_ranges_in_braces(tmp_path: Path) -> None:
    """WebDataset's way to name shards."""
    folder = touch(tmp_path, "x-000008.tar", "x-000009.tar", "x-000010.tar", "x-000011.tar")
    plan = plan_input(f"{folder}/x-{{000008..000010}}.tar")
    assert [shard.name for shard in plan.shards] == ["x-000008", "x-000009", "x-000010"]
    with pytest.raises(InputError, match=r"x-000012\.tar: there is no such file"):
        plan_input(f"{folder}/x-{{000011..000012}}.tar")
    with pytest.raises(InputError, match="names no files"):
        plan_input(f"{folder}/x-{{3..2}}.tar")


def test_a_large_parquet_file_is_many_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "PART_BYTES", 20_000)
    path = tmp_path / "x.parquet"
    rows = [random.Random(i).randbytes(1000) for i in range(100)]
    pq.write_table(pa.table({"image": rows, "id": range(100)}), path, row_group_size=7)
    plan = plan_input(str(path))
    assert len(plan.shards) == 5
    assert [shard.groups for shard in plan.shards][:2] == [(0, 3), (3, 6)]
    assert plan.shards[4].name == "x-00004-of-00005"
    assert Plan.from_lines(plan.to_lines()) == plan
    loads = [load for shard in plan.shards for _, load in read_shard(shard)]
    assert [load() for load in loads if callable(load)] == rows
    pq.write_table(pa.table({"image": rows[:7]}), path)
    *_, (_, gone) = read_shard(plan.shards[1])
    assert "the file is another one now" in str(gone)
    path.write_bytes(path.read_bytes()[:-1] + bytes(50_000))
    assert len(plan_input(str(path)).shards) == 1, "who reads it tells that it is none"


def test_tables_of_a_run_are_no_shards(tmp_path: Path) -> None:
    names = ("run.json", "images/x.parquet", "records/x.parquet", "rejected/x.tfrecord")
    plan = plan_input(touch(tmp_path, *names))
    assert [shard.name for shard in plan.shards] == ["images/x"]

"""--retry_failed through the command: mended pictures, mended shards, and what is refused."""

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from gcs_server import GcsServer
from support import Segment, content

from pipeline import cli

BROKEN = {"left/photo_001.png": b"", "left/photo_031.png": b"cut", "right/photo_006.jpg": b"x"}
MORE = ["--files_per_shard=25", "--confidence_map", "--max_failed_fraction=0.2"]


@pytest.fixture
def damaged(photos: str, tmp_path: Path) -> Path:
    """The photos under the same name, with three broken ones of two shards."""
    folder = tmp_path / "in" / Path(photos).name
    shutil.copytree(photos, folder)
    for name, data in BROKEN.items():
        (folder / name).write_bytes(data)
    return folder


def mend(damaged: Path, photos: str, names: dict[str, bytes]) -> None:
    for name in names:
        shutil.copy(f"{photos}/{name}", damaged / name)


def failed(out: Path) -> dict[str, str]:
    rows = pq.read_table(out / "records").to_pylist()
    return {row["key"]: row["reason"] for row in rows if row["status"] == "failed"}


def test_mended_pictures_of_a_folder(
    damaged: Path,
    photos: str,
    segment: Segment,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    assert segment(str(damaged), out, *MORE) == 0
    assert failed(out).keys() == BROKEN.keys()
    mend(damaged, photos, BROKEN)
    assert segment(str(damaged), out, *MORE, "--retry_failed=timeout,model_error") == 0
    assert failed(out).keys() == BROKEN.keys()  # other reasons
    assert segment(str(damaged), out, *MORE, "--retry_failed=empty") == 0
    assert failed(out).keys() == BROKEN.keys() - {"left/photo_001.png"}
    assert segment(str(damaged), out, *MORE, "--retry_failed") == 0
    assert failed(out) == {}
    assert segment(photos, tmp_path / "well", *MORE) == 0
    assert content(out, places=False) == content(tmp_path / "well", places=False)
    capsys.readouterr()
    assert cli.main(["verify", str(out)]) == 0
    assert cli.main(["status", str(out)]) == 0
    assert "60 read = 60 written + 0 failed" in capsys.readouterr().out
    commits = {path: path.read_bytes() for path in out.glob("metrics/*")}
    assert segment(str(damaged), out, *MORE) == 0  # the same command, without --retry_failed
    assert {path: path.read_bytes() for path in out.glob("metrics/*")} == commits


def test_a_mended_shard_with_its_rest(packed: str, segment: Segment, tmp_path: Path) -> None:
    """One record with a wrong checksum; a shard cut in its middle; an example that is none."""
    source, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(packed, source)
    first, second = sorted(source.iterdir())[:2]
    data = bytearray(first.read_bytes())
    data[len(data) // 2] ^= 1
    first.write_bytes(data)
    second.write_bytes(second.read_bytes()[:-2500])
    assert segment(str(source), out) == 1  # a shard without its rest is over any budget
    lost = failed(out)
    assert sorted(lost.values()) == ["bad_record", "rest_lost"]
    shutil.copy(f"{packed}/{second.name}", second)
    assert segment(str(source), out, "--retry_failed=bad_record") == 1
    assert failed(out) == lost
    assert segment(str(source), out, "--retry_failed=rest_lost") == 0
    assert list(failed(out).values()) == ["bad_record"]
    shutil.copy(f"{packed}/{first.name}", first)
    assert segment(str(source), out, "--retry_failed") == 0
    assert segment(packed, tmp_path / "well") == 0
    assert content(out, places=False) == content(tmp_path / "well", places=False)
    assert cli.main(["verify", str(out)]) == 0


@pytest.mark.slow
def test_on_gs(
    gcs: GcsServer,
    damaged: Path,
    photos: str,
    segment: Segment,
    tiny_model: str,
    tmp_path: Path,
) -> None:
    name = damaged.name
    gcs.upload(damaged, f"in/{name}")
    there = (f"gs://bucket/in/{name}", "gs://bucket/out", *MORE)
    assert segment(*there) == 0
    gcs.upload(photos, f"in/{name}")
    assert segment(*there, "--retry_failed") == 0
    assert segment(photos, tmp_path / "well", *MORE) == 0
    copy = gcs.download("out", tmp_path / "copy")
    assert content(copy, places=False) == content(tmp_path / "well", places=False)
    assert cli.main(["verify", "gs://bucket/out"]) == 0
    assert not gcs.names("out/retries/")


@pytest.mark.slow
def test_good_records_are_not_run_again(
    damaged: Path,
    photos: str,
    segment: Segment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nor read: their files may be gone in all but name."""
    out = tmp_path / "out"
    assert segment(str(damaged), out, *MORE) == 0
    assert segment(photos, tmp_path / "well", *MORE) == 0
    for path in damaged.rglob("*.*"):
        path.write_bytes(b"of no use any more")
    mend(damaged, photos, BROKEN)
    assert segment(str(damaged), out, *MORE, "--retry_failed") == 0
    masks = {p.relative_to(out): p.read_bytes() for p in out.glob("masks/**/*.png")}
    assert len(masks) == 60
    assert all((tmp_path / "well" / name).read_bytes() == data for name, data in masks.items())


def said(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    return captured.out + captured.err


def test_what_is_refused(
    damaged: Path,
    photos: str,
    packed: str,
    segment: Segment,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    assert segment(photos, out, "--retry_failed") == 2
    assert "holds no run; give the command without it" in said(capsys)
    assert not (out / "run.json").exists()
    with pytest.raises(SystemExit):
        segment(photos, out, "--retry_failed=unluck")
    assert "unluck is no reason; they are truncated, " in said(capsys)
    assert segment(str(damaged), out, *MORE) == 0
    (damaged / "left/photo_001.png").unlink()
    assert segment(str(damaged), out, *MORE, "--retry_failed") == 2
    assert "1 files of the input are gone, such as" in said(capsys)
    mend(damaged, photos, BROKEN)
    assert segment(str(damaged), out, *MORE, "--batch_size=4", "--retry_failed") == 2
    assert "batch_size: 8" in said(capsys)
    assert failed(out).keys() == BROKEN.keys()


@pytest.mark.slow
def test_a_committed_file_that_is_damaged_is_not_copied(
    packed: str, segment: Segment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(packed, source)
    first = min(source.iterdir())
    data = bytearray(first.read_bytes())
    data[len(data) // 2] ^= 1
    first.write_bytes(data)
    assert segment(str(source), out) == 0
    mask = min((out / "masks").iterdir())
    mask.write_bytes(mask.read_bytes()[:-1])
    shutil.copy(f"{packed}/{first.name}", first)
    capsys.readouterr()
    assert segment(str(source), out, "--retry_failed") == 1
    assert "is not what was committed; delete metrics/" in said(capsys)
    assert len(list((out / "metrics").iterdir())) == 6


def test_another_input_in_place_of_the_mended_one(
    packed: str, segment: Segment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(packed, source)
    first, second = sorted(source.iterdir())[:2]
    data = bytearray(first.read_bytes())
    data[len(data) // 2] ^= 1
    first.write_bytes(data)
    assert segment(str(source), out) == 0
    shutil.copy(second, first)
    assert segment(str(source), out, "--retry_failed") == 1
    assert "the input has other bytes in record 0" in said(capsys)
    assert list(failed(out).values()) == ["bad_record"]
    assert cli.main(["verify", str(out)]) == 1
    assert segment(str(source), out, "--retry_failed=timeout") == 0  # the shard is what it was
    assert cli.main(["verify", str(out)]) == 0


def test_new_runs_lie_beside_each_other(
    photos: str, segment: Segment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "nightly"
    assert segment(photos, out, "--new_run") == 0
    (made,) = out.iterdir()
    assert f"--output={made} without --new_run" in said(capsys)
    assert segment(photos, made) == 0
    assert "resuming" in said(capsys) and (made / "_SUCCESS").exists()
    assert segment(photos, out, "--new_run", "--overwrite") == 2
    assert "--new_run starts anew beside other runs" in said(capsys)
    assert list(out.iterdir()) == [made]

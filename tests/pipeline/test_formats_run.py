"""Whole runs in every format of shards: the same results as with TFRecord."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support import Segment

from pipeline import cli
from transforms.formats.registry import WRITERS, read_shard_file
from transforms.sink import read_written

FORMATS = ["tar", "tar.gz", "parquet", "array_record"]


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

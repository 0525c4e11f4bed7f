"""Formats on gs://, where a file is read from front to back and written by a local one."""

import pyarrow as pa
import pytest
from format_examples import example, picture
from gcs_server import GcsServer

from transforms.clock import Clock
from transforms.formats.registry import OUTPUT_FORMATS, WRITERS
from transforms.inputs import Shard, plan_input
from transforms.records import Encoded, Record, Result
from transforms.sink import Sink, read_written
from transforms.sources import read_shard


def commit(root: str, form: str) -> list[tuple[Record, Result]]:
    rest = [example(image__filename=b"a.jpg", n=i, blob=b"\xff" * 9000) for i in range(3)]
    results = [
        (Record(i, f"k{i}", "", 1, rest[i]), Result({"images": Encoded(picture(i), "png")}, {}, {}))
        for i in range(3)
    ]
    sink = Sink(root, "images", form, pa.schema([]))
    with sink.open(Shard("s/x", "", 0), Clock()) as writer:
        for each in results:
            writer.write(*each)
        writer.commit()
    return results


@pytest.mark.parametrize("form", OUTPUT_FORMATS)
def test_written_and_read_there(gcs: GcsServer, form: str) -> None:
    results = commit("gs://bucket/out", form)
    assert len(list(read_written("gs://bucket/out", "images", "s/x"))) == 3
    (shard,) = plan_input("gs://bucket/out/images").shards
    assert shard.is_examples == (form in WRITERS)
    for (record, load), (_, result) in zip(read_shard(shard), results, strict=True):
        assert callable(load)
        assert load() == result.outputs["images"].data
        assert b"\xff" * 9000 in record.features
    names = gcs.names("out/images")
    assert len(names) == (7 if form == "folder" else 1)


@pytest.mark.parametrize("form", OUTPUT_FORMATS)
def test_the_same_bytes_as_on_a_disk(gcs: GcsServer, tmp_path, form: str) -> None:
    commit("gs://bucket/out", form)
    commit(str(tmp_path), form)
    here = {
        str(path.relative_to(tmp_path)): path.read_bytes()
        for path in (tmp_path / "images").rglob("*")
        if path.is_file()
    }
    assert here == {name[4:]: gcs.get(name) for name in gcs.names("out/images")}
    assert not list((tmp_path / "_tmp").iterdir())

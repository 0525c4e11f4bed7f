"""All formats: what is written is read again, equal in names, types and values."""

import io
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from format_examples import EXAMPLES, FEATURES, example, picture, shard_file, usual
from hypothesis import given

from transforms.formats import folder, registry
from transforms.formats.base import BadRecord
from transforms.formats.plain import from_plain, parsed, serialized, to_plain

FORMATS = [*registry.WRITERS]


def written(name: str, examples: Iterable[bytes], scratch: str) -> bytes:
    return shard_file(registry.WRITERS[name].open_writer, examples, scratch)


def read(name: str, data: bytes) -> list[bytes | BadRecord]:
    return list(registry.READERS[name.removesuffix(".gz")](io.BytesIO(data)))


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("scratch"))


@pytest.mark.parametrize("name", FORMATS)
@given(examples=EXAMPLES)
def test_any_examples(scratch: str, name: str, examples: list[bytes]) -> None:
    data = written(name, examples, scratch)
    assert read(name, data) == examples
    assert written(name, examples, scratch) == data, "the same records, the same bytes"


@given(feature=FEATURES)
def test_plain_values(feature: Any) -> None:
    again = from_plain(to_plain(feature), typed=True)
    assert again.SerializeToString() == feature.SerializeToString()


@given(examples=EXAMPLES)
def test_any_examples_in_a_folder(tmp_path_factory: Any, examples: list[bytes]) -> None:
    place = tmp_path_factory.mktemp("folder")
    lines = []
    for index, each in enumerate(examples):
        features = {**parsed(each), **parsed(example(image__encoded=picture(index)))}
        examples[index] = serialized(features)
        files, line = folder.lay_out(features, "image/encoded", f"{index:06d}-x")
        assert all(folder.inside(path) == path for path in files)
        for path, data in files.items():
            (place / path).write_bytes(data)
        lines.append(folder.to_line(line))
    (place / folder.TABLE).write_bytes(b"".join(lines))
    assert list(folder.read_examples(str(place), "image/encoded")) == examples


@pytest.mark.parametrize(("one", "other"), itertools.permutations(FORMATS, 2))
def test_any_format_turns_into_any_other(scratch: str, one: str, other: str) -> None:
    examples = [usual(index) for index in range(5)]
    first = read(one, written(one, examples, scratch))
    second = read(other, written(other, first, scratch))  # type: ignore[arg-type]
    assert second == examples


@pytest.mark.parametrize("name", FORMATS)
def test_none_at_all(scratch: str, name: str) -> None:
    assert read(name, written(name, [], scratch)) == []


@pytest.mark.parametrize("name", FORMATS)
def test_a_writer_that_is_given_up_leaves_nothing(tmp_path: Path, name: str) -> None:
    with (tmp_path / "file").open("wb") as file:
        writer = registry.WRITERS[name].open_writer(file, str(tmp_path))
        writer.write(usual(0))
        writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]

"""ArrayRecord: what damage costs; the library has tests of its own."""

import io
import random
from pathlib import Path
from typing import Any

from array_record.python.array_record_module import ArrayRecordReader
from format_examples import example, shard_file, usual

from transforms.formats import array_record
from transforms.formats.base import BadRecord

EXAMPLES = [usual(index) for index in range(6)]


def written(examples: list[Any], scratch: Path) -> bytes:
    return shard_file(array_record.open_writer, examples, scratch)


def read(data: bytes) -> list[bytes | BadRecord]:
    return list(array_record.read_examples(io.BytesIO(data)))


def test_the_library_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "x.array_record"
    path.write_bytes(written(EXAMPLES, tmp_path))
    assert ArrayRecordReader(str(path)).read_all() == EXAMPLES
    with path.open("rb") as file:
        assert list(array_record.read_examples(file)) == EXAMPLES, "by its name"


def test_cut_files_are_told(tmp_path: Path) -> None:
    data = written(EXAMPLES, tmp_path)
    for cut in (0, 1, 100, len(data) // 2, len(data) - 1):
        (bad,) = read(data[:cut])
        assert isinstance(bad, BadRecord)
        assert bad.last


def test_a_damaged_record_costs_itself(tmp_path: Path) -> None:
    large = [example(blob=random.Random(i).randbytes(9000)) for i in range(6)]
    data = written(large, tmp_path)
    seen = set()
    for at in range(1000, 60_000, 1700):
        found = read(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])
        bad = [index for index, each in enumerate(found) if isinstance(each, BadRecord)]
        seen.update(bad)
        assert [each for each in found if isinstance(each, bytes)] == [
            each for index, each in enumerate(large) if index not in bad
        ]
        assert len(bad) <= 1
    assert len(seen) > 3

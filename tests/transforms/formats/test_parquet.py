"""Parquet: tables of others, types that no feature has, and what damage costs."""

import datetime
import decimal
import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from format_examples import example, named, picture, shard_file, text_of, usual

from transforms.formats import base, parquet, parquet_writer
from transforms.formats.arrow_values import EXACT
from transforms.formats.base import BadRecord
from transforms.formats.plain import int_feature, serialized

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
PNG, JPEG = picture(1), picture(2, "JPEG")


def read(data: bytes) -> list[bytes | BadRecord]:
    return list(parquet.read_examples(io.BytesIO(data)))


def table(metadata: dict[bytes, bytes] | None = None, /, **columns: Any) -> bytes:
    file = io.BytesIO()
    made = pa.table(columns)
    pq.write_table(made.replace_schema_metadata(metadata), file, row_group_size=3)
    return file.getvalue()


def written(examples: list[Any], scratch: Path) -> bytes:
    return shard_file(parquet.open_writer, examples, scratch)


def images(*pairs: tuple[bytes | None, str | None]) -> pa.Array:
    return pa.array([{"bytes": data, "path": path} for data, path in pairs], IMAGE)


def test_the_layout_of_hugging_face() -> None:
    names = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    told = {b"huggingface": json.dumps({"info": {"features": names}}).encode()}
    made = table(
        told,
        image=images((PNG, "a/b.png"), (JPEG, None)),
        label_mask=images((JPEG, None), (PNG, None)),
        mask=images((PNG, "m.png"), (None, "m.png")),
        label=pa.array([1, 0], pa.int64()),
        caption=["x", None],
    )
    first, second = map(named, read(made))
    assert text_of(first["image/encoded"]) == PNG
    assert text_of(first["image/filename"]) == b"a/b.png"
    assert text_of(first["image/segmentation/class/encoded"]) == PNG
    assert text_of(first["label_mask"]) == JPEG
    assert first["image/class/label"].int64_list.value == [1]
    assert text_of(first["image/class/text"]) == b"dog"
    assert text_of(first["caption"]) == b"x"
    assert second.keys() == {"image/encoded", "label_mask", "image/class/label", "image/class/text"}


@pytest.mark.parametrize("name", ["jpg", "image", "image_bytes", "image/encoded"])
def test_a_plain_binary_column(name: str) -> None:
    (record,) = read(table(**{"other": [b"\xff"], name: [JPEG], "key": ["k"]}))
    assert text_of(named(record)["image/encoded"]) == JPEG
    assert text_of(named(record)["other"]) == b"\xff"


def test_a_wrong_schema_gives_records_without_a_picture() -> None:
    found = read(table(a=[1, 2], image=[3, 4]))
    assert [named(each).keys() for each in found] == [{"a", "image"}] * 2


EXACT_COLUMNS: dict[str, Any] = {
    "tiny": pa.array([1, None, 3], pa.int8()),
    "flag": pa.array([True, False, None]),
    "large": pa.array([2**64 - 1, 0, None], pa.uint64()),
    "double": pa.array([1 / 3, 1e300, float("-inf")]),
    "half": pa.array([1.5, None, 2.5], pa.float16()),
    "when": pa.array([datetime.datetime(2020, 1, 2), None, None], pa.timestamp("us", "UTC")),
    "price": pa.array([decimal.Decimal("1.10"), None, None], pa.decimal128(9, 2)),
    "nested": pa.array([{"x": [1, 2]}, None, {"x": []}]),
    "kind": pa.array(["a", "b", "a"]).dictionary_encode(),
    "lists": pa.array([[1, 2], [], None], pa.list_(pa.int32())),
    "holes": pa.array([[1, None], [2], []], pa.list_(pa.int16())),
}


def test_types_that_no_feature_has_come_back(tmp_path: Path) -> None:
    pictures = images((PNG, None), (JPEG, None), (PNG, "x.png"))
    found = read(table(image=pictures, **EXACT_COLUMNS))
    first, second = named(found[0]), named(found[1])
    assert first["tiny"].int64_list.value == [1]
    assert first["flag"].int64_list.value == [1]
    assert text_of(first["large"]) == b"18446744073709551615"
    assert second["double"].float_list.value == [float("inf")], "the nearest float32"
    assert text_of(first["when"]) == b'"2020-01-02 00:00:00+00:00"'
    assert json.loads(text_of(first["nested"])) == {"x": [1, 2]}
    again = pq.read_table(io.BytesIO(written(found, tmp_path)))
    for name, column in EXACT_COLUMNS.items():
        assert again[name].type == column.type
        assert again[name].to_pylist() == column.to_pylist()
    assert read(written(found, tmp_path)) == found


def test_a_feature_that_was_changed_wins(tmp_path: Path) -> None:
    (record,) = read(table(image=images((PNG, None)), n=pa.array([1], pa.int8())))
    features = named(record)
    assert EXACT in features
    features["n"] = int_feature([2])
    again = pq.read_table(io.BytesIO(written([serialized(features)], tmp_path)))
    assert again["n"].to_pylist() == [2]


def test_what_we_write_is_what_tools_expect(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(written([usual(index) for index in range(4)], tmp_path))
    frame = pd.read_parquet(path)
    assert frame["label"].tolist() == [0, 1, 2, 0]
    assert frame["image"][1]["bytes"] == picture(1, "JPEG")
    assert frame["image"][1]["path"] == "left/photo 1.v2.jpg"
    assert frame["image/height"].tolist() == [4] * 4
    assert frame["texts"][0].tolist() == ["a", "ä"]
    assert frame["blob"][0] == bytes(range(256))
    features = json.loads(pq.read_schema(path).metadata[b"huggingface"])["info"]["features"]
    assert features == {"image": {"_type": "Image"}, "mask": {"_type": "Image"}}


def test_what_no_column_holds_has_its_own(tmp_path: Path) -> None:
    mixed = [example(x=1), example(x=b"text"), example(image=2, image__encoded=PNG)]
    found = pq.read_table(io.BytesIO(written(mixed, tmp_path)))
    assert found.column_names == ["image_", "image", "other_features"]
    assert read(written(mixed, tmp_path)) == mixed


def test_row_groups_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_writer, "_GROUP_BYTES", 10_000)
    monkeypatch.setattr(parquet_writer, "_GROUP_ROWS", 4)
    examples = [example(blob=b"\xff" * 3000) for _ in range(5)] + [example(x=i) for i in range(9)]
    data = written(examples, tmp_path)
    meta = pq.read_metadata(io.BytesIO(data))
    assert [meta.row_group(i).num_rows for i in range(meta.num_row_groups)] == [3, 4, 4, 3]
    assert read(data) == examples


@pytest.mark.parametrize(
    "data", [b"", b"PAR1", b"no parquet" * 100, b"PAR1" + bytes(100) + b"PAR1"]
)
def test_what_is_no_parquet_file_says_so(data: bytes) -> None:
    (bad,) = read(data)
    assert isinstance(bad, BadRecord)
    assert bad.last
    assert "no Parquet file" in bad.message


def test_cut_files_are_told(tmp_path: Path) -> None:
    data = written([usual(0)], tmp_path)
    for cut in range(0, len(data), 101):
        (bad,) = read(data[:cut])
        assert isinstance(bad, BadRecord)
        assert bad.last


def test_a_damaged_page_costs_what_follows_in_its_row_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_writer, "_GROUP_ROWS", 40)
    examples = [example(image__encoded=picture(i, side=40)) for i in range(100)]
    data = bytearray(written(examples, tmp_path))
    chunk = pq.read_metadata(io.BytesIO(bytes(data))).row_group(1).column(0)
    at = chunk.data_page_offset + chunk.total_compressed_size // 2
    data[at] ^= 0xFF
    found = read(bytes(data))
    assert len(found) == 100, "a row for every record"
    good = [index for index, each in enumerate(found) if isinstance(each, bytes)]
    assert [found[index] for index in good] == [examples[index] for index in good]
    assert set(range(40)) | set(range(80, 100)) <= set(good)
    assert 60 <= len(good) < 100
    (bad,) = {each.message for each in found if isinstance(each, BadRecord)}
    assert "row group 1" in bad


def test_damage_anywhere_never_crashes_nor_passes_in_silence(tmp_path: Path) -> None:
    examples = [usual(index) for index in range(4)]
    data = written(examples, tmp_path)
    meta = pq.read_metadata(io.BytesIO(data))
    footer = len(data) - meta.serialized_size - 8
    silent = 0
    for at in range(0, len(data), 37):
        damaged = data[:at] + bytes([data[at] ^ 0x41]) + data[at + 1 :]
        found = read(damaged)
        if found != examples and not any(isinstance(each, BadRecord) for each in found):
            silent += 1
            assert at >= footer, "pages have checksums"
    assert silent < 20, "only names in the footer may change unseen"


def test_a_row_that_is_too_large_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    made = table(image=images((PNG, None), (bytes(2000), None), (PNG, None)))
    monkeypatch.setattr(base, "MAX_RECORD_BYTES", 1000)
    one, bad, other = read(made)
    assert isinstance(bad, BadRecord)
    assert not bad.last
    assert "more than the 1,000 allowed" in bad.message
    assert text_of(named(one)["image/encoded"]) == text_of(named(other)["image/encoded"]) == PNG


def test_text_that_is_none_costs_its_row() -> None:
    bad_text = pa.Array.from_buffers(
        pa.string(),
        3,
        [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0"), pa.py_buffer(b"a\xffb")],
    )
    found = read(table(image=images((PNG, None), (PNG, None), (PNG, None)), text=bad_text))
    assert [isinstance(each, BadRecord) for each in found] == [False, True, False]


@pytest.mark.parametrize("kind", [pa.date32(), pa.timestamp("us")])
def test_a_time_beyond_the_calendar_costs_its_row(kind: pa.DataType) -> None:
    numbers = pa.array([1, 1 << (30 if kind == pa.date32() else 60), 2])
    times = numbers.cast(pa.int32() if kind == pa.date32() else pa.int64()).view(kind)
    data = table(image=images((picture(), "a"), (picture(), "b"), (picture(), "c")), day=times)
    first, second, third = read(data)
    assert isinstance(second, BadRecord) and "the row is damaged" in second.message
    assert isinstance(first, bytes) and isinstance(third, bytes)


def test_errors_of_the_storage_are_raised(tmp_path: Path) -> None:
    class Gone(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() < 1000:
                raise OSError(5, "the disk is gone")
            return super().read(size)

    with pytest.raises(OSError, match="the disk is gone"):
        list(parquet.read_examples(Gone(written([usual(i) for i in range(9)], tmp_path))))


def test_a_value_that_all_rows_share_is_held_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_DICTIONARY_BYTES", 1 << 24)
    large = picture(0) + bytes(1 << 22)
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 100, pa.int32()), pa.array([large]))
    file = io.BytesIO()
    pq.write_table(pa.table({"image": column}), file, data_page_size=1 << 10)
    assert len(file.getvalue()) < 1 << 22
    before, most, rows = pa.total_allocated_bytes(), 0, 0
    for each in parquet.read_examples(file):
        assert isinstance(each, bytes)
        rows += 1
        most = max(most, pa.total_allocated_bytes() - before)
    assert rows == 100
    assert most < 1 << 26, "400 MB if all were made at once"

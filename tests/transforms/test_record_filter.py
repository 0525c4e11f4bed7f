"""Names of records by conditions on their tables."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from transforms.listing import InputError
from transforms.record_filter import Condition, keys_where, parse_conditions


@pytest.fixture
def run(tmp_path):
    (tmp_path / "records/sub").mkdir(parents=True)
    for n, name in enumerate(("a", "sub/b")):
        table = pa.table(
            {
                "key": [f"{name}{k}" for k in range(4)],
                "status": ["ok", "failed", "ok", "ok"],
                "reason": [None, "corrupt", None, None],
                "width": pa.array([10, None, 30 + n, 40], pa.int32()),
                "score": [0.5, None, 0.25, 1.0],
                "checked": [True, None, False, True],
                "sizes": [[1], [2], [3], [4]],
            }
        )
        pq.write_table(table, tmp_path / f"records/{name}.parquet")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, "a0 a2 a3 sub/b0 sub/b2 sub/b3"),
        ("status = ok and width >= 31", "a3 sub/b2 sub/b3"),
        ("width > 30", "a3 sub/b2 sub/b3"),
        ("width<=10", "a0 sub/b0"),
        ("width != 40", "a0 a2 sub/b0 sub/b2"),
        ("score < .5", "a2 sub/b2"),
        ("checked = true", "a0 a3 sub/b0 sub/b3"),
        ("reason == 'corrupt'", "a1 sub/b1"),
        ("key < sub", "a0 a1 a2 a3"),
        ("width = 5", ""),
    ],
)
def test_conditions(run, text, found):
    conditions = None if text is None else parse_conditions(text)
    for place in (run, run / "records"):
        assert list(keys_where(str(place), conditions)) == found.split()


def test_a_list_of_names_and_one_table(run, tmp_path):
    (tmp_path / "names.txt").write_text("a\nb c\n")
    assert list(keys_where(str(tmp_path / "names.txt"), None)) == ["a", "b c"]
    assert list(keys_where(str(run / "records/a.parquet"), ())) == ["a0", "a1", "a2", "a3"]
    with pytest.raises(InputError, match="leave out --where"):
        list(keys_where(str(tmp_path / "names.txt"), (Condition("a", "=", "b"),)))


@pytest.mark.parametrize("text", ["", "width", "width 3", "width =", "= 3", "a=1 or b"])
def test_what_is_no_condition(text):
    if text == "a=1 or b":  # a value may have spaces
        assert parse_conditions(text) == (Condition("a", "=", "1 or b"),)
        return
    with pytest.raises(ValueError, match="no condition"):
        parse_conditions(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing = 3", "no column 'nothing', but key, status"),
        ("width = wide", "width of .* is int32, which 'wide' is not"),
        ("checked = 1", "checked of .* is bool"),
        ("sizes = 1", "sizes of .* is list"),
    ],
)
def test_what_a_table_cannot_answer(run, text, message):
    with pytest.raises(InputError, match=message):
        list(keys_where(str(run), parse_conditions(text)))


def test_places_without_tables(run, tmp_path):
    for place in (tmp_path / "none", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(InputError, match="expected a run, Parquet files"):
            list(keys_where(str(place), None))
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"bad\.parquet"):
        list(keys_where(str(tmp_path / "bad.parquet"), None))

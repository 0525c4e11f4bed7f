"""Folders of files with tables: what tables tell, and what they may not."""

import json
from pathlib import Path
from typing import Any

import pytest
from format_examples import example, named, picture, text_of, usual

from transforms.formats import folder
from transforms.formats.base import BadRecord
from transforms.formats.plain import parsed
from transforms.inputs import Plan, plan_images, plan_input
from transforms.listing import InputError, list_input
from transforms.sources import read_shard

PNG, JPEG = picture(1), picture(2, "JPEG")


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Pictures in two folders, one of them with a mask and a depth map."""
    for name, data in (("b.png", PNG), ("a.jpg", JPEG), ("m/a.png", PNG), ("d/a.bin", b"depth")):
        (tmp_path / "one" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "one" / name).write_bytes(data)
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "c.png").write_bytes(PNG)
    return tmp_path


def test_columns_become_features(place: Path) -> None:
    (place / "one" / "metadata.jsonl").write_text(
        lines(
            {
                "file_name": "b.png",
                "label": 3,
                "score": 0.5,
                "big": 10**400,
                "tags": ["x", "y"],
                "none": None,
            },
            {
                "file_name": "a.jpg",
                "mask_file_name": "m/a.png",
                "depth_file_name": "d/a.bin",
                "box": {"x": 1},
                "image/filename": "original.jpg",
            },
        )
    )
    plan = plan_input(str(place))
    assert plan.shards == Plan.from_lines(plan.to_lines()).shards
    (shard,) = plan.shards
    assert [file.path for file in shard.files] == ["one/b.png", "one/a.jpg", "two/c.png"]
    assert [file.mask for file in shard.files] == ["", "one/m/a.png", ""]
    (b, _), (a, load), (c, _) = read_shard(shard)
    features = named(b.features)
    assert features["image/class/label"].int64_list.value == [3]
    assert features["score"].float_list.value == [0.5]
    assert features["tags"].bytes_list.value == [b"x", b"y"]
    assert features.keys() == {"image/class/label", "score", "tags", "big"}
    assert text_of(features["big"]) == b"1" + b"0" * 400
    assert text_of(named(a.features)["depth"]) == b"depth"
    assert json.loads(text_of(named(a.features)["box"])) == {"x": 1}
    assert not callable(load) or load() == JPEG
    assert (b.key, a.key, c.key) == ("one/b.png", "original.jpg", "two/c.png")
    assert c.features == b""


def test_csv(place: Path) -> None:
    text = "file_name,label,score,name\r\nb.png,1,2,007x\r\na.jpg,2,0.5,\r\n"
    (place / "one" / "metadata.csv").write_text("\ufeff" + text)
    (shard,) = plan_input(str(place / "one")).shards
    first, second, *_ = (named(record.features) for record, _ in read_shard(shard))
    assert first["image/class/label"].int64_list.value == [1]
    assert first["score"].float_list.value == [2.0], "one type for a column"
    assert text_of(first["name"]) == b"007x"
    assert "name" not in second


def test_masks_by_name_fill_in_where_the_table_says_nothing(place: Path) -> None:
    (place / "one" / "b_mask.png").write_bytes(PNG)
    (place / "one" / "metadata.jsonl").write_text(
        lines({"file_name": "a.jpg", "mask_file_name": "m/a.png"})
    )
    plan = plan_images(list_input(str(place / "one")), 10, pair=True)
    assert {file.path: file.mask for file in plan.shards[0].files} == {
        "a.jpg": "m/a.png",
        "b.png": "b_mask.png",
    }
    assert plan.masks == 2


def test_a_file_that_is_not_there_is_a_row(place: Path) -> None:
    (place / "one" / "metadata.jsonl").write_text(
        lines({"file_name": "gone.png"}, {"file_name": "b.png", "x_file_name": "gone.bin"})
    )
    (shard,) = plan_input(str(place / "one")).shards
    (gone, load), (_, failure), *_ = read_shard(shard)
    assert gone.key == "gone.png"
    for what in (load, failure):
        with pytest.raises(Exception, match="No such file"):
            raise what if isinstance(what, Exception) else _raised(what)


def _raised(load: Any) -> Exception:
    try:
        load()
    except Exception as error:
        return error
    raise AssertionError("it loads")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (lines({"file_name": "../x.png"}), "no path below"),
        (lines({"file_name": "/etc/passwd"}), "no path below"),
        (lines({"file_name": "http://x/a.png"}), "no path below"),
        (lines({"file_name": "a\\..\\b"}), "no path below"),
        (lines({"file_name": "b.png", "mask_file_name": "../../x"}), "no path below"),
        (lines({"file_name": "b.png", "pixelmill": '{"x": {"file": "../x"}}'}), "no path below"),
        (lines({"file_name": "b.png", "pixelmill": '{"x": {"base64": [1]}}'}), "no value"),
        (lines({"file_name": "b.png", "pixelmill": "[]"}), "no JSON object"),
        (lines({"file_name": 3}), "expected a text"),
        (lines({"file_name": "b.png", "\ud800": 3}), "surrogates"),
        (lines({"name": "b.png"}), "expected a text"),
        (lines({"file_name": "b.png"}, {"file_name": "b.png"}), "twice"),
        ("{\n", "line 1 is no JSON"),
        ("\n[]\n", "line 2 is no JSON object"),
        ("[" * 100_000 + "\n", "no JSON"),
    ],
)
def test_wrong_tables_are_refused_before_anything_starts(
    place: Path, table: str, message: str
) -> None:
    (place / "one" / "metadata.jsonl").write_text(table)
    with pytest.raises(InputError, match=message):
        plan_input(str(place))


def test_what_we_write_lies_inside_and_is_plain(tmp_path: Path) -> None:
    features = {
        **parsed(usual(1)),
        **parsed(example(file_name=b"/etc/passwd", pixelmill=b"x", labels=1, x_file_name=b"../y")),
        **parsed(example(long=b"x" * 5000, nan=[float("nan")], a__b=b"\xff", a_b=b"\xfe")),
    }
    files, line = folder.lay_out(features, "image/encoded", "000001-x")
    assert sorted(files) == [
        "000001-x.jpg",
        "000001-x_a_b.bin",
        "000001-x_a_b_.bin",
        "000001-x_blob.bin",
        "000001-x_long.bin",
        "000001-x_mask.png",
    ]
    assert line["file_name"] == "000001-x.jpg"
    assert line["mask_file_name"] == "000001-x_mask.png"
    assert line["weights"] == [pytest.approx(0.1), 1.0]
    assert all(not isinstance(value, dict) for value in line.values()), "tools want plain columns"
    for path, data in files.items():
        (tmp_path / path).write_bytes(data)
    (tmp_path / folder.TABLE).write_bytes(folder.to_line(line))
    (again,) = folder.read_examples(str(tmp_path), "image/encoded")
    assert named(again) == features


def test_a_lost_file_of_ours_costs_its_record(tmp_path: Path) -> None:
    (tmp_path / folder.TABLE).write_text(lines({"file_name": "a.png"}, {"file_name": "b.png"}))
    (tmp_path / "b.png").write_bytes(PNG)
    bad, good = folder.read_examples(str(tmp_path), "image/encoded")
    assert isinstance(bad, BadRecord)
    assert text_of(named(good)["image/encoded"]) == PNG

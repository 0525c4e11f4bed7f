"""Which records are taken: by the hash of their names, the same in every worker."""

from hypothesis import given
from hypothesis import strategies as st

from transforms.failures import Failure
from transforms.records import Record
from transforms.selection import Selection, hashes_of, holds, keys_path, select, write_keys
from transforms.splits import is_validation

names = st.text(max_size=12)


@given(st.sets(names), st.lists(names))
def test_hashes_hold_what_they_were_made_of(known, asked):
    hashes = hashes_of(known)
    assert len(hashes) == len(known)
    for name in [*known, *asked]:
        assert holds(hashes, name) == (name in known)


def items(*keys):
    return [(Record(n, key, key), lambda: b"") for n, key in enumerate(keys)]


def test_wanted_records_are_numbered_anew(tmp_path):
    write_keys(str(tmp_path), hashes_of(["b", "d"]))
    wanted = Selection(keys_path(str(tmp_path))).open()
    found = list(select(items("a", "b", "c", "d"), wanted, "x"))
    assert [(record.index, record.key) for record, _ in found] == [(0, "b"), (1, "d")]


def test_what_has_lost_its_name_is_not_lost(tmp_path):
    write_keys(str(tmp_path), hashes_of(["b"]))
    wanted = Selection(keys_path(str(tmp_path))).open()
    broken = [
        (Record(n, f"x/{n}", ""), Failure("read", reason, ""))
        for n, reason in enumerate(("bad_record", "no_image", "rest_lost"))
    ]
    found = list(select(broken, wanted, "x"))
    assert [failure.reason for _, failure in found] == ["bad_record", "rest_lost"]
    assert [record.index for record, _ in found] == [0, 1]


def test_the_parts_of_a_split_are_the_whole():
    keys = [f"{n % 7}_{n}" for n in range(60)]
    wanted = Selection("", 0.3, "^[^_]+").open()
    train = [r.key for r, _ in select(items(*keys), wanted, "train/x")]
    validation = [r.key for r, _ in select(items(*keys), wanted, "validation/x")]
    assert sorted(train + validation) == sorted(keys) and train and validation
    assert not {key[0] for key in train} & {key[0] for key in validation}
    plain = Selection("", 0.3).open()
    assert all(plain(key, "validation/x") == is_validation(key, 0.3) for key in keys)

"""One name, three spellings: what is written is understood, and nothing else is taken for it."""

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from transforms.shard_names import (
    TFRECORD_EXTENSIONS,
    ShardName,
    expand_at_count,
    format_of,
    parse_shard_name,
    shard_id,
    split_at_count,
)

STEMS = st.text(
    st.characters(blacklist_categories=("Cs",), blacklist_characters="/\0"), min_size=1, max_size=20
).filter(lambda stem: format_of(stem) is None)
EXTENSIONS = st.sampled_from(
    ["", *TFRECORD_EXTENSIONS, *(extension + ".gz" for extension in TFRECORD_EXTENSIONS)]
)


@st.composite
def shard_names(draw):
    count = draw(st.integers(1, 2_000_000))
    return ShardName(draw(STEMS), draw(st.integers(0, count - 1)), count)


@given(shard_names(), EXTENSIONS)
@example(ShardName("line\nbreak", 0, 1), ".tfrecord")
def test_every_spelling_is_parsed_back_to_the_same_shard(shard, extension):
    for spelling in shard.spellings(extension):
        assert parse_shard_name(spelling) == shard
        assert format_of(spelling) == "tfrecord"
        assert shard_id(f"some/folder/{spelling}") == f"some/folder/{shard}"


@given(shard_names())
def test_the_name_of_a_shard_is_its_own_id(shard):
    assert shard_id(str(shard)) == str(shard)
    assert parse_shard_name(str(shard)) == shard


def test_the_three_spellings_of_the_field():
    expected = ShardName("train", 3, 10)
    for name in (
        "train-00003-of-00010.tfrecord",
        "train.tfrecord-00003-of-00010",
        "train-00003-of-00010",
        "train-00003-of-00010.tfrecord.gz",
        "train.record-00003-of-00010.gz",
    ):
        assert parse_shard_name(name) == expected, name
        assert shard_id(name) == "train-00003-of-00010"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "train",
        "train.tfrecord",
        "-00003-of-00010",
        "train-3-of-10",
        "train-0003-of-0010",
        "train-00010-of-00010",
        "train-00000-of-00000",
        "train-00003-of-00010.png",
        "train-00003-of-00010.tfrecord.bak",
        "train-00003-of-00010.tfrecord\n",
        "train--0003-of-00010",
    ],
)
def test_other_names_are_no_shard_names(name):
    assert parse_shard_name(name) is None


def test_six_digits_are_read_and_written_when_needed():
    assert str(ShardName("a", 123456, 200000)) == "a-123456-of-200000"
    assert parse_shard_name("a-123456-of-200000") == ShardName("a", 123456, 200000)


@pytest.mark.parametrize(("index", "count"), [(-1, 3), (3, 3), (0, 0), (5, 2)])
def test_a_shard_beyond_the_count_cannot_be_named(index, count):
    with pytest.raises(ValueError, match="does not exist"):
        ShardName("a", index, count)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("all.tfrecord", "all"),
        ("a.b/c.d.tfrec.gz", "a.b/c.d"),
        ("x.tfrecord.tfrecord", "x.tfrecord"),
        ("a\nb.tfrecord-00000-of-00002", "a\nb-00000-of-00002"),
        ("deep/er/photo.png", "deep/er/photo.png"),
        ("a-00000-of-00002-00001-of-00003.tfr", "a-00000-of-00002-00001-of-00003"),
    ],
)
def test_ids_drop_the_extension_and_keep_the_folder(path, expected):
    assert shard_id(path) == expected


@pytest.mark.parametrize("name", ["photo.jpg", "tfrecord", "a.tfrecord.png", "a.gz", "a.records"])
def test_what_is_not_called_a_tfrecord_file(name):
    assert format_of(name) is None


def test_at_count_is_split_at_its_last_sign():
    assert split_at_count("data/train.tfrecord@10") == ("data/train.tfrecord", 10)
    assert split_at_count("me@home@3") == ("me@home", 3)
    for pattern in ("data/train", "a@", "@3", "a@b", "a@-1", "a@3.png"):
        assert split_at_count(pattern) is None, pattern


@given(STEMS, st.integers(1, 12), EXTENSIONS)
def test_at_count_names_every_shard_in_order_and_no_other(stem, count, extension):
    assume(not stem.endswith(".gz"))
    names = list(expand_at_count(f"data/{stem}{extension}", count))
    assert len(names) == count
    for index, spellings in enumerate(names):
        found = {parse_shard_name(name.removeprefix("data/")) for name in spellings}
        assert found == {ShardName(stem, index, count)}


def test_at_count_without_an_extension_tries_the_known_ones():
    (names,) = expand_at_count("d/train", 1)
    assert names[0] == "d/train-00000-of-00001"
    assert "d/train-00000-of-00001.tfrecord" in names
    assert "d/train.tfrecord-00000-of-00001" in names


def test_at_count_with_an_extension_tries_its_two_spellings_only():
    assert list(expand_at_count("d/train.tfrecord", 2))[1] == (
        "d/train-00001-of-00002.tfrecord",
        "d/train.tfrecord-00001-of-00002",
    )

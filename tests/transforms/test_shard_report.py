"""Commit records and totals: JSON and back, and merging in any order to the same totals."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.failures import REASONS, Problem
from transforms.records import Record
from transforms.shard_report import (
    FileEntry,
    Highlights,
    ShardReport,
    Totals,
    allowed_failures,
    merge_highlights,
)

COUNTS = st.integers(0, 10**12)
TEXTS = st.text(st.characters(blacklist_categories=("Cs",)), max_size=12)
REASON = st.sampled_from(sorted(REASONS))


@st.composite
def shard_highlights(draw, shard):
    """What one shard notes: written and failed records in order."""
    highlights = Highlights(shard)
    outcomes = st.one_of(REASON, st.none(), st.floats(0, 1))
    for index, outcome in enumerate(draw(st.lists(outcomes, max_size=20))):
        record = Record(index, draw(st.sampled_from(["a", "b", "ü\n"])) + str(index), "")
        if isinstance(outcome, str):
            highlights.add_failure(record, Problem("decode", outcome, "why"))
        else:
            highlights.add(record, outcome)
    return highlights.to_dict()


@st.composite
def reports(draw, shard):
    if draw(st.integers(0, 5)) == 0:
        return ShardReport(shard, error=draw(st.text(min_size=1, max_size=5)))
    failed = draw(st.dictionaries(REASON, st.integers(1, 50), max_size=3))
    written = draw(st.integers(0, 1000))
    return ShardReport(
        shard=shard,
        read=written + sum(failed.values()),
        written=written,
        failed_by_reason=failed,
        bytes_in=draw(COUNTS),
        bytes_out=draw(COUNTS),
        sums={"pixels": draw(COUNTS), "bins": draw(st.dictionaries(st.sampled_from("ab"), COUNTS))},
        highlights=draw(shard_highlights(shard)),
        files=tuple(draw(st.lists(st.builds(FileEntry, TEXTS, COUNTS, TEXTS), max_size=3))),
        clock={"started": 1.5, "microseconds": {"read": draw(COUNTS)}},
    )


@st.composite
def several_reports(draw, max_size=6):
    names = draw(st.lists(st.text("abc", min_size=1), unique=True, max_size=max_size))
    return [draw(reports(name)) for name in names]


def total(all_reports):
    merged = Totals()
    for report in all_reports:
        merged = merged.merge(Totals.of(report, 0.01))
    return merged


@given(several_reports(), st.data())
def test_totals_are_the_same_in_any_order_and_any_grouping(all_reports, data):
    expected = total(all_reports)
    assert total(data.draw(st.permutations(all_reports))) == expected
    one, two = sorted(data.draw(st.integers(0, len(all_reports))) for _ in range(2))
    a, b, c = (total(part) for part in (all_reports[:one], all_reports[one:two], all_reports[two:]))
    assert a.merge(b).merge(c) == expected == a.merge(b.merge(c))
    assert Totals().merge(expected) == expected == expected.merge(Totals())


@given(several_reports())
def test_totals_count_every_shard_once(all_reports):
    merged = total(all_reports)
    good = [report for report in all_reports if report.error is None]
    assert merged.shards == len(good)
    assert merged.shards_failed == len(all_reports) - len(good) == len(merged.errors)
    assert merged.read == merged.written + merged.failed == sum(r.read for r in good)
    assert merged.bytes_out == sum(report.bytes_out for report in good)


@given(reports("a/shard-00000-of-00001"))
def test_a_commit_record_comes_back_from_json(report):
    if report.error is None:
        assert ShardReport.from_json(report.to_json()) == report
        assert next(iter(json.loads(report.to_json()))) == "format"


def test_a_commit_record_has_one_field_a_line_and_no_error():
    lines = ShardReport("s", read=2, written=2).to_json().decode().splitlines()
    assert lines[0] == "{" and lines[-1] == "}"
    assert '"shard": "s",' in lines
    assert not any("error" in line for line in lines)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"3",
        b"\xff\xfe",
        b"{}",
        b'{"format": 1}',
        b'{"format": 1, "files": []}',
        b'{"format": 2, "shard": "s", "files": []}',
        b'{"format": 1, "shard": "s", "files": [{"path": "a"}]}',
        b'{"format": 1, "shard": "s", "files": [], "colour": "red"}',
        b'{"format": 1, "shard": "s", "files": 7}',
    ],
)
def test_what_is_no_commit_record_is_a_value_error(data):
    with pytest.raises(ValueError, match=r"\S"):
        ShardReport.from_json(data)


def test_any_cut_of_a_commit_record_is_a_value_error():
    data = ShardReport("s", sums={"a": [1, 2]}, files=(FileEntry("f", 1, "00"),)).to_json()
    for length in range(len(data.rstrip())):
        with pytest.raises(ValueError, match=r"\S"):
            ShardReport.from_json(data[:length])


def test_lists_of_names_are_bounded_and_counts_are_not():
    over = [ShardReport(f"o{n:04}", read=10, failed_by_reason={"corrupt": 9}) for n in range(150)]
    errors = [ShardReport(f"e{n:04}", error="gone") for n in range(150)]
    merged = total(over + errors)
    assert merged.shards_over_budget == merged.shards_failed == 150
    assert merged.over_budget == tuple(f"o{n:04}" for n in range(100))
    assert merged.errors[-1] == ("e0099", "gone") and len(merged.errors) == 100


@pytest.mark.parametrize(
    ("read", "fraction", "allowed"),
    [
        (0, 0.01, 1),
        (1, 0.01, 1),
        (99, 0.01, 1),
        (100, 0.01, 1),
        (200, 0.01, 2),
        (299, 0.01, 2),
        (100, 0.29, 29),
        (1000, 0.003, 3),
        (50, 1.0, 50),
        (1_000_000, 0.0, 0),
        (5, 0.0, 0),
    ],
)
def test_allowed_failures(read, fraction, allowed):
    assert allowed_failures(read, fraction) == allowed


def test_a_shard_is_over_budget_from_one_failure_more_than_allowed():
    def over(failed):
        report = ShardReport("s", 200, 200 - failed, {"corrupt": failed})
        return Totals.of(report, 0.01).shards_over_budget

    assert [over(failed) for failed in (0, 2, 3)] == [0, 0, 1]


def test_highlights_keep_the_least_sure_and_the_first_failures():
    highlights = Highlights("s")
    for index in range(100):
        highlights.add(Record(index, f"k{index}", ""), ((index * 37) % 100) / 100)
        highlights.add_failure(Record(1000 + index, "f", ""), Problem("model", "not_finite", "m"))
    noted = highlights.to_dict()
    assert [entry[0] for entry in noted["unsure"]] == [n / 100 for n in range(24)]
    assert [entry[1] for entry in noted["failures"]["not_finite"]] == list(range(1000, 1005))
    assert len(noted["sample"]) == 24


def test_the_sample_does_not_follow_the_order_of_records():
    highlights = Highlights("s")
    for index in range(500):
        highlights.add(Record(index, f"k{index}", ""), None)
    noted = highlights.to_dict()
    chosen = [entry[2] for entry in noted["sample"]]
    assert len(set(chosen)) == 24 and max(chosen) > 250 and noted["unsure"] == []


def test_merged_highlights_are_those_of_the_whole_run():
    def noted(shards):
        merged = {}
        for shard in shards:
            highlights = Highlights(shard)
            for index in range(20):
                highlights.add(Record(index, f"{index}", ""), (index * 7 % 20) / 20)
            merged = merge_highlights(merged, highlights.to_dict())
        return merged

    assert noted("abc") == noted("cab")
    assert [entry[0] for entry in noted("abc")["unsure"][:4]] == [0.0, 0.0, 0.0, 0.05]

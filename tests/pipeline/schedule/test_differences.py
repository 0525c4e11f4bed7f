"""The set differences, by properties: whatever was made and published before."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.schedule.differences import difference, select
from pipeline.schedule.ledger import Entry, Wanted, wanted
from pipeline.schedule.sources import Source
from transforms.inputs import Shard

NAMES, VERSIONS, WORKS = st.sampled_from("abcdef"), st.sampled_from("123"), st.sampled_from("pq")
ENTRIES = st.lists(
    st.builds(
        lambda wanted, partition: Entry(wanted, "", f"dt=x/run={partition}", ()),
        st.builds(Wanted, NAMES, VERSIONS, WORKS),
        st.integers(0, 3),
    )
)
SOURCES = st.dictionaries(NAMES, VERSIONS).map(
    lambda found: [
        Source(Shard(name, f"/{name}", 1), version, "", 0.0)
        for name, version in sorted(found.items())
    ]
)


@given(SOURCES, ENTRIES, st.data())
def test_when_all_that_is_to_do_is_done_the_selection_is_what_a_clean_run_makes(
    sources: list[Source], made: list[Entry], data: st.DataObject
) -> None:
    published = list({e.name: e for e in made if data.draw(st.booleans())}.values())
    todo = difference(sources, "p", made, published).todo
    names = wanted(sources, "p")
    done = [Entry(names[source.name], "", "dt=x/run=new", ()) for source in todo]
    chosen = select(names, [*made, *done], published)
    assert [entry.wanted for entry in chosen.entries] == [names[name] for name in sorted(names)]
    assert not chosen.left and not chosen.blocked
    assert not {entry.wanted for entry in done} & {entry.wanted for entry in made}  # never twice


@given(SOURCES, ENTRIES, st.integers(0, 6), st.data())
def test_a_part_of_the_work_never_mixes_recipes_and_loses_no_source(
    sources: list[Source], made: list[Entry], most: int, data: st.DataObject
) -> None:
    published = list({e.name: e for e in made if data.draw(st.booleans())}.values())
    found = difference(sources, "p", made, published, max_shards=most)
    assert len(found.todo) <= most
    assert len(found.todo) + len(found.left) + found.done == len(sources)
    assert len(found.todo) + len(found.left) == found.new + found.changed + found.reworked
    names = wanted(sources, "p")
    chosen = select(names, made, published)
    assert {entry.wanted.work for entry in chosen.entries} <= {"p"}
    before = {entry.name for entry in published} & names.keys()
    assert before <= {entry.name for entry in chosen.entries} | set(chosen.blocked)

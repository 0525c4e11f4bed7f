"""Which shapes get a graph of their own: the first few that come often."""

from models.shapes import Often


def test_few_shapes_are_worth_a_graph_of_their_own():
    often = Often()
    assert [often((1, 2)) for _ in range(18)] == [False] * 16 + [True] * 2
    for side in range(2000):
        assert not often((side, side))
    found = {side for side in range(40) if [often((side, 3)) for _ in range(20)][-1]}
    assert len(found) <= 15  # one is taken

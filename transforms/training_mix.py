"""Several training sets as one, shuffled together, with another to measure with."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice

import numpy as np

from transforms.training_data import Example, Part, Survey, TrainingSet, add_counts


class Mix:
    """Looks like one TrainingSet: all of some sets is its training part, all of another validates.

    Every set has been surveyed with a validation fraction of 0.
    """

    def __init__(self, sets: Sequence[tuple[TrainingSet, int]], held_out: TrainingSet) -> None:
        """Args: sets: each with the number of examples that it shows in an epoch."""
        self._sets = [data for data, _ in sets]
        self._counts = [count for _, count in sets]
        self._held_out = held_out

    @property
    def in_memory(self) -> bool:
        return all(data.in_memory for data in self._sets)

    def examples(
        self,
        part: Part,
        order: np.random.Generator | None = None,
        times: Callable[[Example], int] = lambda example: 1,
    ) -> Iterator[Example]:
        """As of a TrainingSet. In an order that is drawn, which set comes next is drawn too, in
        proportion to what is left of each; so sets that are read in random order, each in itself,
        are one in random order, whether they stay in memory or not."""
        if part == "validation":
            yield from self._held_out.examples("train", order, times)
            return
        streams = [data.examples("train", order, times) for data in self._sets]
        if order is not None and len(streams) > 1:
            for number in order.permutation(np.repeat(np.arange(len(streams)), self._counts)):
                yield from islice(streams[number], 1)
        yield from chain(*streams)


def joined(surveys: Sequence[Survey], held_out: Survey) -> Survey:
    """What a survey of such a Mix would have found."""
    parts: dict[Part, Sequence[Survey]] = {"train": surveys, "validation": [held_out]}
    everything = [*surveys, held_out]
    sizes_hw: dict[Part, dict[tuple[int, int], int]] = {
        part: dict(sum((Counter(s.sizes_hw["train"]) for s in found), Counter()))
        for part, found in parts.items()
    }
    texts: dict[int, str] = {}
    first_with: dict[int, str] = {}
    for survey in reversed(everything):  # so that the first that says it stays
        texts |= survey.texts
        first_with |= survey.first_with
    return Survey(
        keys={part: [k for s in found for k in s.keys["train"]] for part, found in parts.items()},
        counts={p: add_counts(s.counts["train"] for s in found) for p, found in parts.items()},
        images={p: add_counts(s.images["train"] for s in found) for p, found in parts.items()},
        sizes_hw=sizes_hw,
        texts=texts,
        grey=all(survey.grey for survey in everything),
        failed=[failed for survey in everything for failed in survey.failed],
        first_with=first_with,
    )

"""Batches: every pixel's chance, every example, the same for one seed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.loading import import_tensorflow
from pipeline.train_batches import Settings, batches_of, crops_of, steps_of
from transforms.training_data import Example

tf = import_tensorflow()


class Data:
    """Numbered pictures of one pixel; `in_memory` as a TrainingSet has it."""

    in_memory = True

    def examples(self, part, order, times):
        numbers = np.repeat(np.arange(11), [times(self.example(i)) for i in range(11)])
        order.shuffle(numbers)
        return (self.example(i) for i in numbers)

    def example(self, number):
        return Example(str(number), np.full((1, 1, 3), number, np.uint8), label=int(number))


def seen(epoch, seed=3, times=lambda example: 1, count=11):
    settings = Settings(seed, epochs=2, batch_size=4, learning_rate=0.1, augment=())

    def prepare(example, seed):
        return example["target"], tf.random.stateless_uniform([], seed)

    batches = batches_of(Data(), count, settings, (), prepare, times=times)(epoch)
    return [(numbers.numpy().tolist(), draws.numpy().tolist()) for numbers, draws in batches]


def test_an_epoch_shows_all_and_fills_the_last_batch():
    batches = seen(0)
    assert [len(numbers) for numbers, _ in batches] == [4, 4, 4]
    shown = [number for numbers, _ in batches for number in numbers]
    assert set(shown) == set(range(11)) and len(set(shown[:11])) == 11


def test_examples_come_as_often_as_told():
    batches = seen(1, times=lambda e: 3 if e.label == 5 else 1, count=13)
    shown = [number for numbers, _ in batches for number in numbers][:13]
    assert shown.count(5) == 3 and set(shown) == set(range(11))


def test_seed_and_epoch_decide_and_nothing_else():
    assert seen(0) == seen(0)
    assert seen(0) != seen(1) and seen(0) != seen(0, seed=4)


def test_no_two_examples_have_the_same_random_numbers():
    draws = [draw for epoch in (0, 1) for _, batch in seen(epoch) for draw in batch]
    assert len(set(draws)) == len(draws)


@pytest.mark.parametrize(
    ("size_hw", "crops"), [((256, 256), 1), ((100, 60), 1), ((360, 480), 3), ((1040, 1388), 22)]
)
def test_large_pictures_have_more_squares(size_hw, crops):
    assert crops_of(size_hw, 256) == crops


@given(st.integers(1, 10_000), st.integers(1, 64))
def test_steps_are_the_fewest_that_show_all(count, batch_size):
    settings = Settings(0, epochs=1, batch_size=batch_size, learning_rate=0.1, augment=())
    steps = steps_of(count, settings)
    assert steps * batch_size >= count > (steps - 1) * batch_size

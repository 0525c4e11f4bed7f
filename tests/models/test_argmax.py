"""The argmax by pieces: the same as numpy's, whatever the sizes, ties included."""

import numpy as np
import pytest

from models.answers import Codes
from models.argmax import make_argmax
from models.loading import import_tensorflow

tf = import_tensorflow()

BAD = 1 << 15
CODES = Codes("uint16", np.uint8, BAD - 1, BAD)


@pytest.mark.parametrize("classes", [2, 12, 64, 65])
@pytest.mark.parametrize(
    "size", [(1, 1, 1), (2, 7, 9), (1, 256, 256), (2, 256, 256), (1, 255, 259), (3, 201, 133)]
)
def test_it_is_the_first_of_the_highest(size, classes):
    """Whole numbers, so that many are equal."""
    rng = np.random.default_rng(classes)
    scores = rng.integers(-3, 4, (*size, classes)).astype(np.float32)
    spec = tf.TensorSpec([None, None, None, classes], tf.float32)
    for argmax in (
        tf.function(make_argmax(tf, CODES), input_signature=[spec]),  # by pieces
        lambda scores: make_argmax(tf, CODES)(tf.constant(scores)),  # compiled for the shape
    ):
        found = argmax(scores)
        assert found.dtype == tf.uint16
        np.testing.assert_array_equal(found, scores.argmax(axis=-1))


@pytest.mark.parametrize("classes", [2, 12, 65])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("size", [(3, 7, 9), (3, 256, 256), (3, 201, 333)])
def test_it_tells_whose_scores_are_not_finite(size, bad, classes):
    scores = np.random.default_rng(0).normal(size=(*size, classes)).astype(np.float32)
    scores[1, size[1] // 2, -1, classes - 1] = bad
    spec = tf.TensorSpec([None, None, None, classes], tf.float32)
    for argmax in (
        tf.function(make_argmax(tf, CODES), input_signature=[spec]),
        make_argmax(tf, CODES),
    ):
        codes = argmax(tf.constant(scores)).numpy()
        assert (codes.max(axis=(1, 2)) < BAD).tolist() == [True, False, True]


def test_large_numbers_are_finite():
    scores = np.full((2, 4, 4, 3), np.finfo(np.float32).max)
    assert make_argmax(tf, CODES)(tf.constant(scores)).numpy().max() < BAD


def test_other_sizes_are_not_compiled_anew():
    """XLA compiles a piece once, for all sizes of pictures with as many classes."""
    argmax = make_argmax(tf, CODES)
    graph = tf.function(
        argmax, input_signature=[tf.TensorSpec([None, None, None, 5], tf.float32)]
    ).get_concrete_function()
    shapes = {
        tuple(op.inputs[0].shape.as_list())
        for function in (graph.graph, *_functions(graph))
        for op in function.get_operations()
        if op.type in ("PartitionedCall", "StatefulPartitionedCall") and _is_compiled(op)
    }
    assert shapes == {(1 << 16, 5)}


def _functions(graph):
    return [f.graph for f in graph.graph._functions.values() if hasattr(f, "graph")]


def _is_compiled(op):
    return any(name == "_XlaMustCompile" for name in op.node_def.attr)

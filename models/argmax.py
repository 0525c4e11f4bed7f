"""The argmax over few classes, several times as fast as TensorFlow's own on a CPU, and whether the
scores are finite.

Of 12 classes TensorFlow's kernel takes 1.4 ns for a score. XLA compiles a loop over the pixels that
takes a fifth, and sees in passing whether the scores are finite. It compiles for each shape anew
(models/shapes.py): scores whose shape is not known are given to it in pieces of one shape, at the
price of copying them.
"""

from collections.abc import Callable
from typing import Any

from models.answers import Codes

_PIECE = 1 << 16  # pixels
_MOST_CLASSES = 64  # at 150 it gains a seventh, and takes a second to compile


def is_compiled(tf: Any, classes: int) -> bool:
    """Whether XLA does it: for few classes, and where there is no GPU."""
    return classes <= _MOST_CLASSES and not tf.config.list_logical_devices("GPU")


def make_argmax(tf: Any, codes: Codes) -> Callable[[Any], Any]:
    """A function of scores [n, H, W, C] with C known: codes [n, H, W], the first of the highest;
    some of a picture's are `bad` or more when not all of its scores are finite.
    """
    compiled = tf.function(
        lambda scores: _coded(tf, scores, codes), jit_compile=True, autograph=False
    )

    def argmax(scores: Any) -> Any:
        if not is_compiled(tf, scores.shape[-1]):
            ids = tf.argmax(scores, axis=-1, output_type=tf.int32)
            good = finite(tf, scores)[:, tf.newaxis, tf.newaxis]
            return tf.cast(tf.where(good, ids, codes.bad), codes.dtype)
        known = scores.shape.is_fully_defined()
        return compiled(scores) if known else _by_pieces(tf, compiled, scores, codes)

    return argmax


def finite(tf: Any, scores: Any) -> Any:
    """bool [n]: whether all of scores [n, H, W, C] are finite.

    Their sum tells in half the time; where it is infinite, so may be a sum of large numbers.
    """
    sums = tf.math.is_finite(tf.reduce_sum(scores, axis=[1, 2, 3]))

    def each() -> Any:
        return tf.reduce_all(tf.math.is_finite(scores), axis=[1, 2, 3])

    return tf.cond(tf.reduce_all(sums), lambda: sums, each)


def _coded(tf: Any, scores: Any, codes: Codes) -> Any:
    """Codes [...] of scores [..., C]: one loop with one result is what XLA makes the best of."""
    best = scores[..., 0]
    ids, nothing = tf.zeros_like(best, tf.int32), best * 0.0
    for number in range(1, scores.shape[-1]):
        score = scores[..., number]
        higher = score > best
        best, ids = tf.where(higher, score, best), tf.where(higher, number, ids)
        nothing += score * 0.0  # NaN of NaN and of infinity
    return tf.cast(tf.where(nothing == 0.0, ids, ids + codes.bad), codes.dtype)


def _by_pieces(tf: Any, compiled: Callable[[Any], Any], scores: Any, codes: Codes) -> Any:
    classes = scores.shape[-1]
    pixels = tf.reshape(scores, [-1, classes])
    whole = tf.shape(pixels)[0] // _PIECE * _PIECE
    pieces = tf.reshape(pixels[:whole], [-1, _PIECE, classes])
    found = tf.map_fn(compiled, pieces, fn_output_signature=codes.dtype)
    rest = pixels[whole:]
    left = tf.shape(rest)[0]
    piece = tf.ensure_shape(tf.pad(rest, [[0, _PIECE - left], [0, 0]]), [_PIECE, classes])
    none = tf.zeros([0], codes.dtype)
    last = tf.cond(left > 0, lambda: compiled(piece)[:left], lambda: none)
    return tf.reshape(tf.concat([tf.reshape(found, [-1]), last], 0), tf.shape(scores)[:-1])

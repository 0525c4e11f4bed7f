"""Losses of segmenter and classifier: cross-entropy that leaves out the ignore id, with weights.

For pixels (or pictures) p with label y[p] and logits z[p], the ones with the ignore id aside:

    loss = sum over p of w[y[p]] * -log softmax(z[p])[y[p]]  /  sum over p of w[y[p]]

the weighted mean of -log likelihood (Goodfellow et al. 2016, equation 6.12). Dividing by the
weights, not by the number of pixels, keeps its size whatever is in a batch.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from models.loading import import_tensorflow

_MOST_WEIGHT = 10.0


def masked_cross_entropy(
    class_weights: Sequence[float], ignore_id: int
) -> Callable[[Any, Any], Any]:
    """A loss for `keras.Model.compile`.

    Args:
        class_weights: by class id, above 0.
        ignore_id: label that does not count.

    Returns:
        A function of labels, integer [...], and logits, float32 [..., C], to a scalar; 0 when all
        labels are the ignore id.
    """
    tf = import_tensorflow()
    classes = len(class_weights)
    weights = tf.constant(class_weights, tf.float32)

    def loss(labels: Any, logits: Any) -> Any:
        labels = tf.cast(labels, tf.int32)
        counted = labels != ignore_id
        known = tf.where(counted, labels, 0)
        # a one-hot product, not tf.gather: the gradient of gather is not deterministic on GPUs
        one_hot = tf.one_hot(known, classes, dtype=tf.float32)
        weight = tf.linalg.matvec(one_hot, weights) * tf.cast(counted, tf.float32)
        surprise = -tf.reduce_sum(one_hot * tf.nn.log_softmax(tf.cast(logits, tf.float32)), -1)
        return tf.math.divide_no_nan(tf.reduce_sum(weight * surprise), tf.reduce_sum(weight))

    return loss


def balancing_weights(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Weights that raise rare classes: 1 / sqrt(share), scaled so that the mean over pixels is 1.

    The square root lies between no weights and inverse frequency, which makes rare classes spread
    over their neighbours (the choice of Mikolov et al. 2013 for sampling words, for the same
    reason). No weight is more than 10 times the smallest.

    Args:
        counts: int64 [C], pixels or pictures by class; none may be 0.

    Raises:
        ValueError: a class has none.
    """
    if (counts <= 0).any():
        raise ValueError(f"class {int(np.flatnonzero(counts <= 0)[0])} has no examples")
    shares = counts / counts.sum()
    weights = 1 / np.sqrt(shares)
    weights = np.minimum(weights, _MOST_WEIGHT * weights.min())
    return np.asarray(weights / (weights * shares).sum())

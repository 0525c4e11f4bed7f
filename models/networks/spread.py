"""How varied generated pictures are, and whether they are copies, against real ones of one label.

Distances are Euclidean, between pictures of one size as vectors.
"""

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist

Vectors = npt.NDArray[np.float32]
_COPY_QUANTILE = 0.01


def spread(made: Vectors, real: Vectors) -> float:
    """Mean distance of two made pictures by the mean distance of two real ones.

    About 1 when they are as varied, 0 when all are the same (mode collapse). NaN when all real
    ones are the same: nothing compares with that.

    Args:
        made, real: float32 [N, D] and [M, D], at least two of each.
    """
    distance = pdist(real).mean()
    return float(pdist(made).mean() / distance) if distance > 0 else np.nan


def copies(made: Vectors, trained_with: Vectors) -> float:
    """Share of made pictures that are as good as copies of ones trained with.

    A copy is nearer to one of these than 99 % of them are to their nearest other: so near that
    hardly two real ones are. The nearest-neighbour test of memorisation of Meehan et al. 2020
    (arXiv:2004.05675), with a fixed quantile.

    Args:
        made: float32 [N, D].
        trained_with: float32 [M, D], at least two.
    """
    known = cKDTree(trained_with)
    nearest_other = known.query(trained_with, 2)[0][:, 1]  # the nearest is the picture itself
    near = np.quantile(nearest_other, _COPY_QUANTILE)
    return float((known.query(made)[0] < near).mean())

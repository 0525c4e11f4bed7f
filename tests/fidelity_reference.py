"""What reference implementations say of fixed features and pictures, stored for the tests.

Run once, in an environment with torch, torch-fidelity 0.4.0, imagehash 4.3.2 and scikit-learn:

    python tests/fidelity_reference.py > tests/fidelity_reference.json
"""

import json

import numpy as np
from PIL import Image

KID_SUBSETS, KID_SIZE, SEED = 20, 100, 2020


def feature_sets():
    """name -> (generated, real), float64 [n, D]; n are powers of two, for float32 means."""
    rng = np.random.RandomState(7)  # its streams are frozen
    mix = rng.randn(24, 24) / 4
    real = rng.randn(512, 24) @ mix + 1
    few = rng.randn(16, 24)  # fewer than features: singular
    return {
        "shifted": (rng.randn(256, 24) @ mix + 1.3, real),
        "same": (rng.randn(256, 24) @ mix + 1, real),
        "collapsed": (np.repeat(real[:8], 32, axis=0) + 0.01 * rng.randn(256, 24), real),
        "far_from_zero": (10 + 0.05 * rng.randn(256, 24), 10.01 + 0.05 * rng.randn(512, 24)),
        "singular": (few + 1, rng.randn(16, 24)),
    }


def subsets(n, m):
    """The rows that torch-fidelity draws."""
    rng = np.random.RandomState(SEED)
    size = min(KID_SIZE, n, m)
    return [
        (rng.choice(n, size, replace=False), rng.choice(m, size, replace=False))
        for _ in range(KID_SUBSETS)
    ]


def logits():
    return np.random.RandomState(11).randn(1000, 10) * 3


def pictures():
    """uint8 pictures of several sizes, colour and grey, photographs' and digits' kind."""
    rng = np.random.RandomState(5)
    found = [np.zeros((28, 28), np.uint8), np.full((40, 30, 3), 200, np.uint8)]
    for height, width in ((28, 28), (64, 48), (33, 71), (300, 200)):
        coarse = Image.fromarray(rng.randint(0, 256, (5, 4, 3)).astype(np.uint8))
        found.append(np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)))
        found.append(np.asarray(coarse.resize((width, height)).convert("L")))
        found.append(rng.randint(0, 256, (height, width)).astype(np.uint8))
    return found


def main():
    import imagehash
    import torch
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_isc import isc_features_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torch_fidelity.metric_prc import prc_features_to_metric

    torch.set_default_dtype(torch.float64)
    found = {}
    for name, sets in feature_sets().items():
        made, real = (torch.tensor(rows) for rows in sets)
        statistics = [fid_features_to_statistics(rows) for rows in (made, real)]
        kid = kid_features_to_metric(
            made,
            real,
            kid_subsets=KID_SUBSETS,
            kid_subset_size=min(KID_SIZE, len(made), len(real)),
            rng_seed=SEED,
            verbose=False,
        )
        covered = prc_features_to_metric(
            made, real, prc_neighborhood=3, prc_batch_size=100, save_cpu_ram=True, verbose=False
        )
        found[name] = {
            "frechet": fid_statistics_to_metric(*statistics, False)["frechet_inception_distance"],
            "kid": [kid[f"kernel_inception_distance_{which}"] for which in ("mean", "std")],
            "precision": covered["precision"],
            "recall": covered["recall"],
        }
    score = isc_features_to_metric(torch.tensor(logits()), splits=1, shuffle=False)
    result = {
        "features": found,
        "inception_score": score["inception_score_mean"],
        "hashes": [str(imagehash.phash(Image.fromarray(pixels))) for pixels in pictures()],
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

"""What torchmetrics itself says of random masks, stored for the tests.

Run once, in an environment with torch 2.14.1 and torchmetrics 1.9.0, which are no packages of this
project:

    python tests/torchmetrics_reference.py > tests/torchmetrics_reference.json
"""

import json

import numpy as np

CLASSES, IGNORE, CASES = 6, 255, 4
MANY = 3 << 23  # pixels, more than float32 can count one by one
MANY_CONFIDENCE = 230


def masks(seed, ignored=True):
    """(truth, predicted) uint8 [3, 41, 53]: class 1 only true, 2 only predicted, 3 in neither."""
    rng = np.random.RandomState(seed)  # its streams are frozen
    shape = (3, 41, 53)
    truth = np.kron(rng.randint(0, CLASSES, (3, 6, 6)), np.ones((1, 7, 9), int))[:, :41, :53]
    predicted = np.where(rng.rand(*shape) < 0.7, truth, rng.randint(0, CLASSES, shape))
    truth[truth == 2], predicted[predicted == 1] = 0, 0
    truth[truth == 3], predicted[predicted == 3] = 4, 4
    truth[2][truth[2] == 5], predicted[2][predicted[2] == 5] = 4, 4  # absent in one picture only
    if ignored:
        truth[rng.rand(*shape) < 0.1] = IGNORE
    return truth.astype(np.uint8), predicted.astype(np.uint8)


def degenerate():
    """name -> (truth, predicted), uint8 [1, H, W]."""
    truth, predicted = (side[:1] for side in masks(0))
    return {
        "one_pixel": (truth[:, :1, :1] * 0 + 4, predicted[:, :1, :1] * 0 + 4),
        "one_wrong_pixel": (truth[:, :1, :1] * 0 + 4, predicted[:, :1, :1] * 0 + 2),
        "all_ignored": (np.full_like(truth, IGNORE), predicted),
        "one_class": (np.zeros_like(truth), np.zeros_like(truth)),
    }


def confidences(seed, edges):
    """uint8 [3, 41, 53], at least 128 and so of the likeliest of two classes; without `edges` none
    is on an edge of 15 bins: those are the multiples of 17."""
    found = np.random.RandomState(seed + 100).randint(128, 256, (3, 41, 53))
    return np.where(found % 17 == 0, found - (not edges), found).astype(np.uint8)


def main():
    import torch
    from torchmetrics.functional import classification as of
    from torchmetrics.functional.classification.calibration_error import _ce_compute
    from torchmetrics.functional.segmentation import dice_score, mean_iou
    from torchmetrics.segmentation import MeanIoU

    def tensors(*sides):
        return [torch.tensor(side.astype(np.int64)) for side in sides]

    def scores(truth, predicted, ignore_index):
        sides = tensors(predicted, truth)
        found = {}
        for name, function in (
            ("iou", of.multiclass_jaccard_index),
            ("f1", of.multiclass_f1_score),
            ("precision", of.multiclass_precision),
            ("recall", of.multiclass_recall),
        ):
            for average in ("none", "macro", "weighted"):
                value = function(*sides, CLASSES, average=average, ignore_index=ignore_index)
                found[f"{name}_{average}"] = value.tolist()
        found["accuracy_micro"] = of.multiclass_accuracy(
            *sides, CLASSES, average="micro", ignore_index=ignore_index
        ).tolist()
        return found

    def per_image(truth, predicted):
        sides, index = tensors(predicted, truth), {"input_format": "index"}
        module = MeanIoU(CLASSES, **index)
        module.update(*sides)
        return {
            "module_miou": module.compute().tolist(),
            "iou": mean_iou(*sides, CLASSES, per_class=True, **index).tolist(),
            "miou": mean_iou(*sides, CLASSES, **index).tolist(),
            "mdice": dice_score(*sides, CLASSES, average="macro", **index).tolist(),
        }

    def calibration(truth, predicted, confidence):
        """Two classes: `predicted` is right where it is the truth."""
        right = torch.tensor((truth == predicted).astype(np.int64))
        right[torch.tensor(truth == IGNORE)] = IGNORE
        sure = torch.tensor(confidence.astype(np.float32) / np.float32(255))
        return of.multiclass_calibration_error(
            torch.stack([1 - sure, sure], dim=1), right, 2, n_bins=15, ignore_index=IGNORE
        ).item()

    def calibration_float64(truth, predicted, confidence):
        """By its own formula without its float32, which adds up one by one."""
        kept = truth != IGNORE
        sides = confidence[kept] / 255, (truth == predicted)[kept].astype(np.float64)
        return _ce_compute(*(torch.tensor(side) for side in sides), 15).item()

    cases = []
    for seed in range(CASES):
        truth, predicted = masks(seed)
        cases.append(
            {
                "seed": seed,
                "outside": scores(truth, predicted, IGNORE),
                "class_0": scores(*masks(seed, ignored=False), 0),
                "per_image": per_image(*masks(seed, ignored=False)),
                "calibration": calibration(truth, predicted, confidences(seed, False)),
                "calibration_float64": calibration_float64(
                    truth, predicted, confidences(seed, False)
                ),
                "calibration_edges": calibration(truth, predicted, confidences(seed, True)),
            }
        )
    many, few = (np.full((1, 1, n), MANY_CONFIDENCE, np.uint8) for n in (MANY, 1000))
    found = {
        "cases": cases,
        "degenerate": {n: scores(*sides, IGNORE) for n, sides in degenerate().items()},
        "calibration_few": calibration(few * 0, few * 0, few),
        "calibration_many": calibration(many * 0, many * 0, many),
    }
    # NaN is no JSON
    print(json.dumps(json.loads(json.dumps(found), parse_constant=lambda _: None), indent=1))


if __name__ == "__main__":
    main()

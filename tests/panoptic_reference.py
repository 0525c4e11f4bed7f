"""Makes panoptic_reference.json: what panopticapi itself says of random segmentations.

    git clone https://github.com/cocodataset/panopticapi && cd panopticapi && git checkout 7bb4655
    PYTHONPATH=. python THIS_FILE panoptic_reference.json

It is on no package index, so its answers are stored. Needs numpy and Pillow.
"""

import json
import sys
import tempfile

import numpy as np

CLASSES, CASES = 3, 6


def segmentation(seed, void):
    """(ids uint16 [H, W], classes by id): rectangles one over the other; 0 is void."""
    rng = np.random.default_rng(seed)
    ids = np.zeros((40, 50), np.uint16)
    if not void:
        ids[:] = 1
    classes = {1: 0}
    for number in range(2, 14):
        top, left = rng.integers(0, 32), rng.integers(0, 40)
        ids[top : top + rng.integers(4, 16), left : left + rng.integers(4, 20)] = number
        classes[number] = int(rng.integers(0, CLASSES))
    if void:
        ids[10:14, 5:40] = 0
    return ids, {i: c for i, c in classes.items() if (ids == i).any()}


def pair(seed):
    """A truth with void and a prediction that moves it a little."""
    truth, classes = segmentation(seed, void=True)
    other, other_classes = segmentation(seed + 1000, void=False)
    predicted = np.roll(truth, 1, axis=seed % 2)
    fresh = predicted == 0
    predicted = np.where(fresh, other + 100, predicted).astype(np.uint16)
    predicted_classes = {i: c for i, c in classes.items() if (predicted == i).any()}
    predicted_classes |= {
        i + 100: c for i, c in other_classes.items() if (predicted == i + 100).any()
    }
    some = next(iter(predicted_classes))
    predicted_classes[some] = (predicted_classes[some] + 1) % CLASSES  # of the wrong class
    return truth, classes, predicted, predicted_classes


def main(path):
    from panopticapi.evaluation import pq_compute_single_core
    from panopticapi.utils import id2rgb
    from PIL import Image

    categories = {c + 1: {"id": c + 1, "isthing": 1} for c in range(CLASSES)}
    found = []
    for seed in range(CASES):
        truth, classes, predicted, predicted_classes = pair(seed)
        with tempfile.TemporaryDirectory() as folder:
            sides = []
            for name, ids, by_id in (("t", truth, classes), ("p", predicted, predicted_classes)):
                Image.fromarray(id2rgb(ids.astype(np.uint32))).save(f"{folder}/{name}.png")
                info = [
                    {"id": i, "category_id": c + 1, "iscrowd": 0, "area": int((ids == i).sum())}
                    for i, c in by_id.items()
                ]
                sides.append({"image_id": seed, "file_name": f"{name}.png", "segments_info": info})
            stat = pq_compute_single_core(0, [tuple(sides)], folder, folder, categories)
        average, by_class = stat.pq_average(categories, isthing=None)
        counts = {c: vars(stat[c]) for c in categories}
        found.append({"seed": seed, "average": average, "by_class": by_class, "counts": counts})
    with open(path, "w", encoding="utf-8") as file:
        json.dump(found, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])

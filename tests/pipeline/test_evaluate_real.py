"""Real images, labels and a segmenter of others: evaluate equals a plain loop over all pixels."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from sklearn import metrics as sk
from support import metrics_of, real_data

from pipeline import cli

pytestmark = pytest.mark.real_data

PEDESTRIAN, VOID = 9, 11
# CamVid's ids as "person or not", as the portrait segmenter has it
PERSON_MAP = ",".join(f"{i}={int(i == PEDESTRIAN)}" for i in range(VOID))


def plain_loop(images, labels, limit):
    """True and predicted ids of all pixels that count, by the SavedModel itself."""
    model = tf.saved_model.load(real_data("saved_models") + "/deeplab_nchw_tf1")
    signature = model.signatures["serving_default"]
    sides = []
    for path in sorted(images.iterdir())[:limit]:
        pixels = np.asarray(Image.open(path).convert("RGB"))
        resized = tf.image.resize(pixels[np.newaxis].astype(np.float32), (513, 513))
        logits = tf.transpose(signature(input=resized / 127.5 - 1)["logits"], [0, 2, 3, 1])
        scores = tf.image.resize(logits, pixels.shape[:2])[0]
        truth = np.asarray(Image.open(labels / path.name))
        kept = truth != VOID
        sides.append((truth[kept] == PEDESTRIAN, tf.argmax(scores, axis=-1).numpy()[kept]))
    return [np.concatenate(side) for side in zip(*sides, strict=True)]


def check(tmp_path, limit):
    data = Path(real_data("camvid_val"))
    images = tmp_path / "images"
    images.mkdir()
    for path in sorted((data / "images").iterdir())[:limit]:
        shutil.copy(path, images)
    code = cli.main(
        [
            *("evaluate", "--model", real_data("saved_models") + "/deeplab_nchw_tf1"),
            *("--value_range=-1,1", "--input", str(images), "--labels", str(data / "masks")),
            *("--classes", "other,person", "--class_map", PERSON_MAP),
            *("--ignore_ids", str(VOID), "--output", str(tmp_path / "out")),
        ]
    )
    assert code == 0
    found = metrics_of(tmp_path / "out")["metrics"]
    truth, predicted = plain_loop(images, data / "masks", limit)
    assert found["evaluated_pixels"] == len(truth)
    assert found["pixel_accuracy"] == pytest.approx(np.mean(truth == predicted), abs=1e-9)
    iou = sk.jaccard_score(truth, predicted, average=None, labels=[0, 1], zero_division=0)
    assert found["miou"] == pytest.approx(iou.mean(), abs=1e-9)


def test_a_segmenter_of_others_has_the_accuracy_of_a_plain_loop(tmp_path):
    check(tmp_path, 6)


@pytest.mark.slow
def test_a_segmenter_of_others_on_all_images(tmp_path):
    check(tmp_path, 101)


def test_nuclei_as_instances(tmp_path):
    """Instances against themselves, and against the components of their union."""
    data = Path(real_data("nuclei_dsb2018"))
    for name, predictions, encoding in (
        ("same", data / "instances", "instances"),
        ("joined", data / "masks", "ids"),
    ):
        code = cli.main(
            [
                *("evaluate", "--predictions", str(predictions), "--labels"),
                *(str(data / "instances"), "--label_encoding", "instances", "--classes"),
                *("background,nucleus", "--prediction_encoding", encoding),
                *("--output", str(tmp_path / name)),
            ]
        )
        assert code == 0
    same, joined = (metrics_of(tmp_path / name)["metrics"] for name in ("same", "joined"))
    nuclei = sum(
        len(np.unique(np.asarray(Image.open(path)))) - 1 for path in (data / "instances").iterdir()
    )
    assert same["pq"] == 1 and same["classes"][1]["true_positive"] == nuclei
    assert joined["miou"] == 1 and joined["pixel_accuracy"] == 1
    row = joined["classes"][1]
    assert row["true_positive"] + row["false_negative"] == nuclei
    assert 0.8 < joined["pq"] < 1  # nuclei that touch are one component

"""The models that come along: small, as good as their files say, made by a script that works."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from sklearn.datasets import load_digits
from sklearn.svm import SVC

from models.card import load_card, own_card
from models.loading import import_tensorflow
from models.networks.spread import copies
from models.shipped.digit_files import DIGIT_NAMES, SIDE_PX, enlarged_digit
from models.shipped.digit_scenes import CLASS_NAMES, scenes
from pipeline import command_line
from transforms.confusion import confusion_matrix, scores
from transforms.splits import is_validation

tf = import_tensorflow()
SHIPPED = Path(__file__).parents[3] / "models" / "shipped"
NAMES = ("digits_segmenter", "digits_classifier", "digits_generator")


def serve(name):
    model = tf.saved_model.load(str(SHIPPED / name))
    return model, model.signatures["serving_default"]  # a signature holds the model only weakly


def claimed(name):
    return json.loads((SHIPPED / f"{name}.json").read_bytes())


@pytest.fixture(scope="module")
def digits():
    """All digits as shipped models see them, their labels, and which validate."""
    found = load_digits()
    pictures = np.stack([enlarged_digit(glyph) for glyph in found.images])
    keys = [f"{DIGIT_NAMES[label]}/{i:04d}.png" for i, label in enumerate(found.target)]
    return pictures, found.target, np.asarray([is_validation(key, 0.2) for key in keys])


@pytest.mark.parametrize("name", NAMES)
def test_each_is_small_and_brings_its_card(name):
    files = [path for path in (SHIPPED / name).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 2 << 20
    classes = CLASS_NAMES if name == "digits_segmenter" else DIGIT_NAMES
    assert load_card(own_card(str(SHIPPED / name)), {}).classes == list(classes)
    about = (SHIPPED / name / "assets.extra" / "MODEL_CARD.md").read_text()
    assert "UCI repository" in about and "Apache-2.0" in about


def test_the_segmenter_finds_held_out_digits():
    model, signature = serve("digits_segmenter")
    images, masks = scenes(1_000_020, range(100), split="demo")  # digits that it never saw
    found = np.concatenate(
        [signature(image=tf.constant(images[i : i + 20]))["logits"].numpy().argmax(-1)
         for i in range(0, 100, 20)]
    )  # fmt: skip
    iou = scores(confusion_matrix(masks, found, len(CLASS_NAMES))).means["mean_iou"]
    assert iou > 0.8
    assert abs(iou - claimed("digits_segmenter")["mean_iou"]) < 0.15
    del model


def test_the_classifier_is_as_right_as_it_says(digits):
    pictures, labels, validates = digits
    model, signature = serve("digits_classifier")
    images = np.repeat(pictures[validates][..., np.newaxis], 3, -1)
    found = signature(image=tf.constant(images))["logits"].numpy().argmax(-1)
    accuracy = (found == labels[validates]).mean()
    assert accuracy >= 0.98
    assert accuracy == pytest.approx(claimed("digits_classifier")["accuracy"], abs=1e-9)
    del model


def test_generated_digits_show_what_was_asked_for(digits):
    """Judged by a support vector machine that knows real digits only, at their own 8x8 pixels."""
    pictures, labels, validates = digits
    model, signature = serve("digits_generator")
    asked = np.repeat(np.arange(10, dtype=np.int32), 100)
    noise = np.random.default_rng(0).normal(size=(1000, 64)).astype(np.float32)
    made = signature(noise=tf.constant(noise), label=tf.constant(asked))["image"].numpy()
    assert made.shape == (1000, SIDE_PX, SIDE_PX, 1)

    def small(images):
        step = SIDE_PX // 8
        return images.reshape(-1, 8, step, 8, step).mean((2, 4)).reshape(-1, 64)

    real, fake = small(pictures / 127.5 - 1), small(made[..., 0])
    judge = SVC(C=10).fit(real[~validates], labels[~validates])
    assert judge.score(real[validates], labels[validates]) > 0.97
    agrees = judge.predict(fake) == asked
    assert agrees.mean() >= 0.95
    assert min(agrees[asked == label].mean() for label in range(10)) >= 0.85
    for label in range(10):
        spread = pdist(fake[asked == label]).mean() / pdist(real[labels == label]).mean()
        assert spread >= 0.7, DIGIT_NAMES[label]
    assert copies(fake.astype(np.float32), real[~validates].astype(np.float32)) < 0.02
    del model


def test_the_script_that_makes_them_gives_commands_that_exist():
    text = (SHIPPED / "make_models.sh").read_text().replace("\\\n", " ").replace("$digits", "a,b")
    commands = [line for line in text.splitlines() if line.startswith("pixelmill ")]
    assert len(commands) == 3
    for command in commands:
        _, unknown = command_line.parser().parse_known_args(shlex.split(command)[1:])
        assert unknown == []

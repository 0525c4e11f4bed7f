"""Every third-party SavedModel of the real data: the right numbers, or the right refusal."""

import os

import numpy as np
import pytest
from PIL import Image

from models.card import load_card
from models.errors import ModelError
from models.findings import examine
from models.generator import Translator
from models.loading import import_tensorflow
from models.probe import probe
from models.rules import bind
from models.segmenter import Segmenter
from models.signatures import read_model

SERVING = "tf_serving_testdata"
NO_PIXELS = "cannot take pixels: expected uint8 or float of rank 4"
SEGMENTERS = {
    "deeplab_nchw_tf1": {"input.range": "-1,1"},
    "deeplab_portrait_tf1": {"input.max_side": 513},
}
ENLARGERS = {
    "fsrcnn_x2_tf1": ("fsrcnn", 2),
    "fsrcnn_small_x2_tf1": ("fsrcnn", 2),
    "fsrcnn_x3_tf1": ("fsrcnn", 3),
    "fsrcnn_x4_tf1": ("fsrcnn", 4),
    "fast_srgan_96": ("srgan", 4),
    "fast_srgan_dynamic": ("srgan", 4),
}
REFUSED = {
    "basic_pitch_three_outputs": NO_PIXELS,
    "tfx_keras_tfexample": "0 outputs of signature 'serving_default' could be masks",
    "tfx_taxi_estimator_tfexample": "0 outputs of signature 'serving_default' could be masks",
    "tfx_taxi_eval_tag_only": "0 outputs of signature 'eval' could be masks",
    f"{SERVING}/bad_half_plus_two": "is not a SavedModel: there is no saved_model.pb in it",
    f"{SERVING}/matrix_half_plus_two": NO_PIXELS,
    f"{SERVING}/saved_model_counter": "has several signatures; choose one by --signature",
    f"{SERVING}/saved_model_half_plus_three": NO_PIXELS,
    f"{SERVING}/saved_model_half_plus_two_2_versions": NO_PIXELS,
    f"{SERVING}/saved_model_half_plus_two_cpu": NO_PIXELS,
    f"{SERVING}/saved_model_half_plus_two_cpu_with_saved_model_config": NO_PIXELS,
    f"{SERVING}/saved_model_half_plus_two_tf2_cpu": NO_PIXELS,
}
# says nothing of ranks, and takes whatever it is given
TAKES_ALL = f"{SERVING}/saved_model_half_plus_two_mlmd"


def bound(path, card_name, fields):
    info = read_model(path)
    return info.path, probe(info.path, bind(info, load_card(card_name, fields)))


@pytest.fixture(scope="module")
def models(real_data):
    return real_data / "saved_models"


def test_every_model_is_looked_at(models):
    found = {path.name for path in models.iterdir() if path.is_dir()} - {SERVING}
    found |= {f"{SERVING}/{path.name}" for path in (models / SERVING).iterdir() if path.is_dir()}
    assert found == {*SEGMENTERS, *ENLARGERS, *REFUSED, TAKES_ALL}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_model_of_pictures_is_refused_unread(models, name):
    try:
        found = examine(str(models / name))
    except ModelError as error:
        assert REFUSED[name] in str(error)
    else:
        assert found.binding is None
        assert REFUSED[name] in found.question


def test_a_graph_that_takes_all_is_given_pictures(models):
    """x / 2 + 2 of every number: three of them a pixel, which may be scores or colours."""
    fields = {"input.range": "0,1", "output.kind": "image", "output.range": "2,2.5"}
    path, binding = bound(str(models / TAKES_ALL), None, fields)
    picture = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    np.testing.assert_array_equal(Translator(path, binding)([picture])[0].pixels, picture)
    found = examine(str(models / TAKES_ALL))
    assert found.otherwise is not None, "inspect shows both ways"


def test_both_portrait_models_find_the_same_person(models, real_data):
    with Image.open(next((real_data / "exif_orientation").rglob("*.jpg"))) as opened:
        picture = np.asarray(opened.convert("RGB").resize((513, 513)))
    masks = []
    for name, fields in SEGMENTERS.items():
        path, binding = bound(str(models / name), None, fields)
        masks.append(Segmenter(path, binding)([picture])[0].mask)
    assert masks[0].shape == (513, 513)
    assert np.mean(masks[0] != masks[1]) < 0.001


@pytest.mark.parametrize("name", ENLARGERS)
def test_enlarged_pictures_equal_a_plain_call(models, real_data, name):
    card, scale = ENLARGERS[name]
    path, binding = bound(str(models / name), card, {})
    with Image.open(real_data / "super_resolution" / "input.png") as opened:
        picture = np.asarray(opened.convert("RGB").resize((96, 96)))
    made = Translator(path, binding)([picture])[0].pixels
    assert made.shape == (96 * scale, 96 * scale, 3)
    signature = import_tensorflow().saved_model.load(path).signatures["serving_default"]
    if card == "srgan":
        x = picture[np.newaxis].astype(np.float32) / 255
        plain = next(iter(signature(**{binding.input_name: x}).values()))[0].numpy()
        expected = np.clip(np.round((plain + 1) * 127.5), 0, 255)
        assert np.abs(made - expected).max() <= 1
    else:
        grey = picture @ np.array([0.299, 0.587, 0.114])
        x = (grey[np.newaxis, :, :, np.newaxis] / 255).astype(np.float32)
        plain = next(iter(signature(**{binding.input_name: x}).values()))[0, 0].numpy()
        luma = made @ np.array([0.299, 0.587, 0.114])
        # twice rounded, and what no RGB can show is cut off
        assert np.abs(luma - np.clip(plain * 255, 0, 255)).mean() < 0.4


def test_inspect_says_how_to_run_each(models):
    for name in (*SEGMENTERS, *ENLARGERS):
        found = examine(os.path.join(models, name))
        assert found.binding is not None, name
        if name in ENLARGERS:
            generator = found if found.binding.makes_picture else found.otherwise
            assert generator is not None and generator.binding.makes_picture, name
            if name.startswith("fsrcnn"):
                assert "--channels=Y" in generator.flags

"""A Segmenter gives what a plain loop over the pictures gives, written here a second time."""

import dataclasses
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models import segmenter as segmenting
from models.answers import BINS
from models.card import load_card
from models.errors import ModelError
from models.graphs import grid_step
from models.loading import import_tensorflow
from models.probe import probe
from models.rules import bind
from models.segmenter import Segmenter
from models.signatures import read_model

ROOT = Path(__file__).resolve().parents[2]


# The plain loop: one picture at a time, no batches, no graph of ours


@dataclasses.dataclass(frozen=True)
class Plain:
    """One way to call a model by hand.

    Attributes:
        recipe: of conftest.py.
        feed: (tf, uint8 [1, H, W, 3]) -> what the model takes.
        card: what pixelmill is told.
        kind: logits, probabilities or ids.
        output: its name.
        nchw: whether the scores come so.
        threshold: for one score a pixel.
    """

    recipe: str
    feed: Callable[[Any, Any], Any]
    card: dict[str, Any] = dataclasses.field(default_factory=dict)
    kind: str = "logits"
    output: str = "out"
    nchw: bool = False
    threshold: float = 0.5

    def __str__(self):
        return "-".join([self.recipe, *map(str, self.card.values())]).replace(" ", "")


def unit(tf, x):
    return tf.cast(x, tf.float32) / 255.0


def signed(tf, x):
    return tf.cast(x, tf.float32) / 127.5 - 1.0


def normalised(tf, x):
    return (unit(tf, x) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]


def grey(tf, x):
    r, g, b = (tf.cast(x[..., i : i + 1], tf.float32) for i in range(3))
    return (0.299 * r + 0.587 * g + 0.114 * b) / 255.0


def resized(tf, x):
    return tf.image.resize(x, [32, 48]) / 255.0


def shrunk(tf, x):
    """To a longest side of 32."""
    height, width = x.shape[1:3]
    scale = 32 / max(height, width)
    return tf.image.resize(x, [round(height * scale), round(width * scale)]) / 255.0


IMAGENET = {"input__mean": [0.485, 0.456, 0.406], "input__std": [0.229, 0.224, 0.225]}
PLAIN = [
    Plain("logits", unit),
    Plain("logits", signed, {"input__range": "-1,1"}),
    Plain("logits", lambda tf, x: tf.cast(x, tf.float32), {"input__range": "0,255"}),
    Plain("logits", normalised, IMAGENET),
    Plain(
        "logits",
        lambda tf, x: (tf.cast(x, tf.float32)[..., ::-1] - [103.94, 116.78, 123.68]) * 0.017,
        {
            "input__range": "0,255",
            "input__channels": "BGR",
            "input__mean": [103.94, 116.78, 123.68],
            "input__std": [1 / 0.017],
        },
    ),
    Plain("logits", lambda tf, x: unit(tf, x)[..., ::-1], {"input__channels": "BGR"}),
    Plain("logits", lambda tf, x: 1.0 - unit(tf, x), {"input__range": "1,0"}),
    Plain("logits", resized, {"input__size": [32, 48]}),
    Plain("logits", shrunk, {"input__max_side": 32}),
    Plain("grey", grey),
    Plain("grey", grey, {"input__channels": "L"}),
    Plain("fixed", resized),
    Plain("uint8", lambda tf, x: x),
    Plain("uint8", lambda tf, x: x[..., ::-1], {"input__channels": "BGR"}),
    Plain(
        "uint8_fixed",
        lambda tf, x: tf.cast(tf.round(tf.image.resize(x, [32, 48])), tf.uint8),
    ),
    Plain("nchw_out", unit, nchw=True),
    Plain("nchw", lambda tf, x: tf.transpose(resized(tf, x), [0, 3, 1, 2]), nchw=True),
    Plain("stride4", unit),
    Plain("stride4_nchw", unit, nchw=True),
    Plain("stride16_21", unit),
    Plain("batch1", unit),
    Plain("batch4", resized),
    Plain("softmax", unit, kind="probabilities"),
    Plain("sigmoid", unit, kind="probabilities"),
    Plain("sigmoid_rank3", unit, kind="probabilities"),
    Plain("sigmoid", unit, {"output__threshold": 0.8}, kind="probabilities", threshold=0.8),
    Plain("logit", unit),
    Plain("logit", unit, {"output__threshold": 0.1}, threshold=0.1),
    Plain("int32", unit, kind="ids"),
    Plain("int64", unit, kind="ids"),
    Plain("int32", resized, {"input__size": [32, 48]}, kind="ids"),
    Plain("int32_stride4", unit, kind="ids"),
    Plain("float_ids", unit, {"output__kind": "class_ids"}, kind="ids"),
    Plain("ids_and_scores", unit, kind="probabilities", output="probabilities"),
    Plain("ids_and_scores", unit, {"output__name": "ids"}, kind="ids", output="ids"),
    Plain("two_scores", unit, {"output__name": "logits"}, output="logits"),
    Plain("classes300", unit),
    Plain("keras3", unit, output="output_0"),
]


@dataclasses.dataclass(frozen=True)
class Answer:
    mask: np.ndarray
    probabilities: np.ndarray | None  # [H, W, C]


def plain_answer(path: str, plain: Plain, image: np.ndarray) -> Answer:
    tf = import_tensorflow()
    model = tf.saved_model.load(path)
    function = model.signatures["serving_default"]
    (name,) = function.structured_input_signature[1]
    x = plain.feed(tf, tf.constant(image[np.newaxis]))
    batch = function.structured_input_signature[1][name].shape[0]
    if batch is not None:
        x = tf.repeat(x, batch, axis=0)
    scores = function(**{name: x})[plain.output][:1]
    if len(scores.shape) == 3:
        scores = scores[..., tf.newaxis]
    if plain.nchw:
        scores = tf.transpose(scores, [0, 2, 3, 1])
    if plain.kind == "ids":
        ids = tf.image.resize(scores, image.shape[:2], method="nearest")
        return Answer(ids[0, ..., 0].numpy().astype(np.int64), None)
    scores = tf.image.resize(scores, image.shape[:2], method="bilinear")[0].numpy()
    scores = scores.astype(np.float64)
    if scores.shape[-1] == 1:
        p = 1 / (1 + np.exp(-scores)) if plain.kind == "logits" else scores
        return Answer(
            (p[..., 0] > plain.threshold).astype(np.int64), np.concatenate([1 - p, p], -1)
        )
    if plain.kind == "logits":
        exponents = np.exp(scores - scores.max(-1, keepdims=True))
        return Answer(scores.argmax(-1), exponents / exponents.sum(-1, keepdims=True))
    return Answer(scores.argmax(-1), scores)


def check_histogram(counts: np.ndarray, values: np.ndarray) -> None:
    """`counts` are of `values` of [0, 1] in 1/255, but for the last digits of a float."""
    assert counts.shape == (BINS,)
    assert counts.sum() == values.size
    most, least = (
        np.cumsum(np.bincount(np.rint(np.clip(values + slip, 0, 1) * 255).astype(int).ravel(),
                              minlength=BINS))
        for slip in (-1e-4, 1e-4)
    )  # fmt: skip
    found = np.cumsum(counts)
    assert (least <= found).all()
    assert (found <= most).all()


def check(answer, expected: Answer, classes: int) -> None:
    np.testing.assert_array_equal(answer.mask, expected.mask)
    assert answer.finite
    assert answer.in_range
    assert answer.class_pixels.dtype == np.int64
    np.testing.assert_array_equal(
        answer.class_pixels, np.bincount(answer.mask.ravel(), minlength=classes)
    )
    p = expected.probabilities
    if p is None:
        assert answer.confidence is None
        assert answer.histograms is None
        return
    assert (answer.confidence.dtype, answer.histograms.dtype) == (np.uint8, np.int64)
    chosen = np.take_along_axis(p, expected.mask[..., np.newaxis], -1)[..., 0]
    assert np.abs(answer.confidence / 255 - chosen).max() <= 0.5 / 255 + 1e-4
    others = p.copy()
    np.put_along_axis(others, expected.mask[..., np.newaxis], 0, -1)
    logs = np.log(p, out=np.zeros_like(p), where=p > 0)
    confidence, entropy, margin = answer.histograms
    step = grid_step(answer.mask.shape)
    grid = np.s_[step // 2 :: step, step // 2 :: step]
    seen = answer.confidence[grid]
    np.testing.assert_array_equal(confidence, np.bincount(seen.ravel(), minlength=256))
    check_histogram(confidence, chosen[grid])
    check_histogram(entropy, (-(p * logs).sum(-1) / np.log(p.shape[-1]))[grid])
    check_histogram(margin, (chosen - others.max(-1))[grid])


@pytest.mark.parametrize("plain", PLAIN, ids=str)
def test_it_equals_a_plain_loop(saved, bound, picture, plain):
    path = saved(plain.recipe)
    binding = bound(plain.recipe, **plain.card)
    segmenter = Segmenter(path, binding, batch_size=4)
    size = (39, 57)  # no multiple of anything
    images = [picture(*size, seed) for seed in range(min(3, segmenter.batch_size))]
    masks = []
    for image, answer in zip(images, segmenter(images), strict=True):
        assert answer.mask.shape == size
        check(answer, plain_answer(path, plain, image), binding.num_classes)
        masks.append(answer.mask)
    assert len(np.unique(masks)) > 1, "a mask of one class proves nothing"


NAMES257 = [f"c{i}" for i in range(257)]


@pytest.mark.parametrize(
    ("name", "card", "expected"),
    [
        ("logits", {}, (np.uint8, 3)),
        ("classes300", {}, (np.uint16, 300)),
        ("int32", {}, (np.uint8, 255)),
        ("int32", {"classes": NAMES257}, (np.uint16, 257)),
        ("sigmoid", {}, (np.uint8, 2)),
    ],
)
def test_dtypes_follow_the_number_of_classes(saved, bound, picture, name, card, expected):
    (answer,) = Segmenter(saved(name), bound(name, **card))([picture(16, 16)])
    assert (answer.mask.dtype, answer.class_pixels.size) == expected


def test_ids_above_255_survive(saved, bound, picture):
    (answer,) = Segmenter(saved("classes300"), bound("classes300"))([picture(64, 64)])
    assert answer.mask.max() > 255


def test_scores_are_resized_before_the_argmax(saved, bound, picture):
    """The other order gives steps of 4 pixels along every edge."""
    image = picture(40, 56)
    (answer,) = Segmenter(saved("stride4"), bound("stride4"))([image])
    runs = np.diff(np.flatnonzero(np.diff(answer.mask.astype(int), axis=1).ravel()))
    assert not (runs % 4 == 0).all()
    (steps,) = Segmenter(saved("int32_stride4"), bound("int32_stride4"))([image])
    np.testing.assert_array_equal(steps.mask, steps.mask[::4, ::4].repeat(4, 0).repeat(4, 1))
    assert (answer.mask != steps.mask).any()


# Batches


def same(one, other):
    np.testing.assert_array_equal(one.mask, other.mask)
    np.testing.assert_array_equal(one.class_pixels, other.class_pixels)
    if one.confidence is not None:
        assert np.abs(one.confidence.astype(int) - other.confidence).max() <= 1
        np.testing.assert_array_equal(one.histograms.sum(1), other.histograms.sum(1))


MIXED = [(40, 56), (33, 47), (33, 47), (64, 64), (1, 1), (8, 100), (40, 56)]


@pytest.mark.parametrize("name", ["fixed", "nchw", "uint8_fixed"])
def test_mixed_sizes_in_a_batch_give_what_each_gives_alone(saved, bound, picture, name):
    segmenter = Segmenter(saved(name), bound(name), batch_size=8)
    images = [picture(*size, seed) for seed, size in enumerate(MIXED)]
    for image, answer in zip(images, segmenter(images), strict=True):
        assert answer.mask.shape == image.shape[:2]
        same(answer, segmenter([image])[0])


def test_mixed_sizes_that_shrink_to_one(saved, bound, picture):
    binding = bound("logits", input__max_side=32)
    segmenter = Segmenter(saved("logits"), binding, batch_size=4)
    sizes = [(64, 48), (128, 96), (64, 48), (32, 24)]
    assert {binding.model_size_hw(size) for size in sizes} == {(32, 24)}
    images = [picture(*size, seed) for seed, size in enumerate(sizes)]
    for image, answer in zip(images, segmenter(images), strict=True):
        assert answer.mask.shape == image.shape[:2]
        same(answer, segmenter([image])[0])


@pytest.mark.parametrize("name", ["logits", "fixed", "softmax", "int32", "stride4_nchw", "batch4"])
@pytest.mark.parametrize("count", [1, 3])
def test_padding_changes_nothing(saved, bound, picture, name, count):
    full = Segmenter(saved(name), bound(name), batch_size=8)
    single = Segmenter(saved(name), bound(name), batch_size=1)
    images = [picture(40, 56, seed) for seed in range(count)]
    for image, answer in zip(images, full(images), strict=True):
        same(answer, single([image])[0])


def test_what_the_model_is_given(saved, bound, picture, monkeypatch):
    """Full batches where the size is fixed, else as they are; for XLA of a power of two."""
    for kind, batch_size, counts in (
        ("fixed", 6, {1: 6, 4: 6, 6: 6}),
        ("logits", 6, {1: 1, 3: 3, 6: 6}),
        ("logits by XLA", 6, {1: 1, 2: 2, 3: 4, 4: 4, 5: 6, 6: 6}),
        ("batch1", 6, {1: 1}),
        ("batch4", 6, {1: 4, 3: 4, 4: 4}),
    ):
        name, _, xla = kind.partition(" by ")
        binding = dataclasses.replace(bound(name), xla=bool(xla))
        segmenter = Segmenter(saved(name), binding, batch_size)
        seen = []

        def spy(image, predict=segmenter._predict, seen=seen):
            seen.append(image.shape[0])
            return predict(image=image)

        monkeypatch.setattr(segmenter, "_predict", spy)
        assert {count: segmenter.padded_rows(count) for count in counts} == counts
        for count in counts:
            assert len(segmenter([picture(32, 48)] * count)) == count
        assert seen == list(counts.values())


@pytest.mark.parametrize(("name", "expected"), [("logits", 5), ("batch1", 1), ("batch4", 4)])
def test_a_fixed_batch_decides_the_batch_size(saved, bound, name, expected):
    assert Segmenter(saved(name), bound(name), batch_size=5).batch_size == expected


@pytest.mark.parametrize("name", ["logits", "batch1", "batch4"])
def test_too_many_pictures_or_none(saved, bound, picture, name):
    segmenter = Segmenter(saved(name), bound(name), batch_size=4)
    limit = segmenter.batch_size
    for count in (0, limit + 1):
        with pytest.raises(ValueError, match=f"got {count} pictures, expected 1 to {limit}"):
            segmenter([picture(32, 48)] * count)


def test_large_pictures_are_finished_in_parts(saved, bound, picture, monkeypatch):
    segmenter = Segmenter(saved("logits"), bound("logits"), batch_size=8)
    images = [picture(40, 56, seed) for seed in range(5)]
    whole = segmenter(images)
    monkeypatch.setattr(segmenting, "_FINISH_BYTES", 2 * 40 * 56 * 3 * 4)
    assert [len(run) for run in segmenter._runs(images)] == [2, 2, 1]
    for one, other in zip(whole, segmenter(images), strict=True):
        same(one, other)
    monkeypatch.setattr(segmenting, "_FINISH_BYTES", 1)
    assert [len(run) for run in segmenter._runs(images)] == [1] * 5


def test_threads_may_share_it(saved, bound, picture):
    segmenter = Segmenter(saved("logits"), bound("logits"), batch_size=4)
    images = [picture(40 + seed % 3, 56, seed) for seed in range(12)]
    alone = [segmenter([image])[0] for image in images]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda image: segmenter([image])[0], images))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.mask, other.mask)
        np.testing.assert_array_equal(one.confidence, other.confidence)
        np.testing.assert_array_equal(one.histograms, other.histograms)


def test_the_same_batch_twice_is_the_same_to_the_byte(saved, bound, picture):
    segmenter = Segmenter(saved("softmax"), bound("softmax"), batch_size=4)
    images = [picture(40, 56, seed) for seed in range(3)]
    for one, other in zip(segmenter(images), segmenter(images), strict=True):
        np.testing.assert_array_equal(one.mask, other.mask)
        np.testing.assert_array_equal(one.confidence, other.confidence)
        np.testing.assert_array_equal(one.histograms, other.histograms)


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 300), (300, 1), (7, 5)])
@pytest.mark.parametrize("name", ["logits", "fixed", "stride4", "int32_stride4"])
def test_pictures_of_odd_sizes(saved, bound, picture, name, size_hw):
    segmenter = Segmenter(saved(name), bound(name), batch_size=2)
    for answer in segmenter([picture(*size_hw), picture(*size_hw, 1)]):
        assert answer.mask.shape == size_hw
        assert answer.class_pixels.sum() == size_hw[0] * size_hw[1]


def test_the_pictures_are_left_alone(saved, bound, picture):
    image = picture(40, 56)
    image.flags.writeable = False
    before = image.copy()
    turned = np.asarray(image.transpose(1, 0, 2))  # not contiguous
    segmenter = Segmenter(saved("logits"), bound("logits"))
    (answer,) = segmenter([turned])
    same(answer, segmenter([np.ascontiguousarray(turned)])[0])
    np.testing.assert_array_equal(image, before)


# Answers that are none


def test_a_picture_that_makes_no_numbers_is_told_from_its_mates(saved, bound, picture):
    segmenter = Segmenter(saved("nan_if_black"), bound("nan_if_black"), batch_size=4)
    black = np.zeros((40, 56, 3), np.uint8)
    images = [picture(40, 56, 0), black, picture(40, 56, 1)]
    answers = segmenter(images)
    assert [answer.finite for answer in answers] == [True, False, True]
    for index in (0, 2):
        same(answers[index], segmenter([images[index]])[0])


def test_black_padding_does_not_reach_the_pictures(saved, bound, picture):
    """The padded rows of this model are not a number; nobody sees them."""
    segmenter = Segmenter(saved("nan_if_black"), bound("nan_if_black"), batch_size=8)
    answers = segmenter([picture(40, 56, seed) for seed in range(5)])
    assert [answer.finite for answer in answers] == [True] * 5


def test_ids_that_no_name_was_given_for(saved, bound, picture):
    names = [f"class {i}" for i in range(20)]
    segmenter = Segmenter(saved("ids40"), bound("ids40", classes=names), batch_size=2)
    (answer,) = segmenter([picture(40, 56)])
    assert not answer.in_range
    assert answer.finite
    (answer,) = Segmenter(saved("ids40"), bound("ids40"))([picture(40, 56)])
    assert answer.in_range
    assert 19 < answer.mask.max() < 40


def test_a_model_that_drops_a_row_is_caught(saved, bound, picture):
    segmenter = Segmenter(saved("drop_if_many"), bound("drop_if_many"), batch_size=4)
    with pytest.raises(ValueError, match="answered 3 rows for a batch of 4") as caught:
        segmenter([picture(40, 56)] * 4)
    assert "--batch_size=1" in str(caught.value)
    assert len(segmenter([picture(40, 56)])) == 1


def test_a_model_that_raises_can_be_called_again(saved, bound, picture, monkeypatch):
    """The lock of a GPU is given back; a bad batch is bisected by the caller."""
    monkeypatch.setattr("models.segmenter.make_turn", threading.RLock)
    segmenter = Segmenter(saved("drop_if_many"), bound("drop_if_many"), batch_size=4)
    for _ in range(2):
        with pytest.raises(ValueError, match="rows"):
            segmenter([picture(40, 56)] * 2)
    with ThreadPoolExecutor(1) as other:
        assert other.submit(segmenter.turn.acquire, blocking=False).result()


# Fresh processes, in which TensorFlow orders signatures and outputs anew

ONCE = """
import json, sys, zlib
import numpy as np
from models.rules import bind
from models.card import load_card
from models.probe import probe
from models.segmenter import Segmenter
from models.signatures import read_model

answers = {}
for path, card in json.loads(sys.argv[1]):
    info = read_model(path)
    binding = probe(path, bind(info, load_card(None, card)))
    image = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
    (answer,) = Segmenter(path, binding)([image])
    answers[path] = [repr(info), repr(binding), zlib.crc32(answer.mask), answer.mask.tolist()]
print(json.dumps(answers))
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_fresh_processes_answer_the_same(saved):
    """Of several outputs and of several signatures; each start orders them anew."""
    names = ["ids_and_scores", "scores_and_vector", "several_with_default"]
    task = json.dumps([[saved(name), {"input.range": "0,1"}] for name in names])
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def run(seed):
        done = subprocess.run(
            [sys.executable, "-c", ONCE, task],
            env=environment | {"PYTHONHASHSEED": str(seed)},
            check=True,
            capture_output=True,
            text=True,
            timeout=200,
        )
        return json.loads(done.stdout)

    with ThreadPoolExecutor(2) as pool:
        first, *others = pool.map(run, range(4))
    assert len(others) == 3
    assert set(first) == {saved(name) for name in names}
    assert all(other == first for other in others)


# Models of strangers


def load_stranger(real_data, name, card, batch_size=1):
    path = str(real_data / "saved_models" / name)
    return Segmenter(path, probe(path, bind(read_model(path), load_card(None, card))), batch_size)


def read_rgb(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture(scope="module")
def scenes(real_data):
    files = sorted((real_data / "camvid_val" / "images").glob("*.png"))[::40]
    assert len(files) >= 3
    return [read_rgb(file) for file in files]


@pytest.fixture(scope="module")
def portrait(real_data):
    card = {"input.max_side": 513, "classes": ["background", "person"]}
    return load_stranger(real_data, "deeplab_portrait_tf1", card, batch_size=4)


@pytest.fixture(scope="module")
def portrait_nchw(real_data):
    return load_stranger(real_data, "deeplab_nchw_tf1", {"input.range": "-1,1"})


@pytest.fixture(scope="module")
def astronaut():
    return pytest.importorskip("skimage.data").astronaut()


@pytest.mark.real_data
def test_deeplab_equals_a_plain_loop(real_data, scenes, portrait):
    tf = import_tensorflow()
    model = tf.saved_model.load(str(real_data / "saved_models" / "deeplab_portrait_tf1"))
    predict = model.signatures["serving_default"]
    for image in scenes:
        assert max(image.shape) <= 513
        outputs = predict(ImageTensor=tf.constant(image[np.newaxis]))
        p = outputs["SemanticProbabilities"]
        p = tf.image.resize(p, image.shape[:2])[0].numpy().astype(np.float64)
        (answer,) = portrait([image])
        check(answer, Answer(p.argmax(-1), p), 2)


@pytest.mark.real_data
def test_deeplab_ids_equal_a_plain_loop(real_data, scenes, portrait):
    card = {"input.max_side": 513, "output.name": "SemanticPredictions"}
    segmenter = load_stranger(real_data, "deeplab_portrait_tf1", card)
    for image in scenes:
        tf = import_tensorflow()
        ids = segmenter._predict(ImageTensor=tf.constant(image[np.newaxis]))["SemanticPredictions"]
        (answer,) = segmenter([image])
        np.testing.assert_array_equal(answer.mask, ids[0].numpy())
        assert answer.confidence is None
        # its ids are the argmax of its own probabilities
        np.testing.assert_array_equal(answer.mask, portrait([image])[0].mask)


@pytest.mark.real_data
def test_nchw_deeplab_equals_a_plain_loop(real_data, scenes, portrait_nchw):
    tf = import_tensorflow()
    model = tf.saved_model.load(str(real_data / "saved_models" / "deeplab_nchw_tf1"))
    predict = model.signatures["serving_default"]
    for image in scenes:
        x = tf.image.resize(image[np.newaxis], [513, 513]) / 127.5 - 1.0
        logits = tf.transpose(predict(input=x)["logits"], [0, 2, 3, 1])
        logits = tf.image.resize(logits, image.shape[:2])[0].numpy().astype(np.float64)
        exponents = np.exp(logits - logits.max(-1, keepdims=True))
        expected = Answer(logits.argmax(-1), exponents / exponents.sum(-1, keepdims=True))
        (answer,) = portrait_nchw([image])
        check(answer, expected, 2)


@pytest.mark.real_data
def test_both_deeplabs_agree(astronaut, portrait, portrait_nchw):
    """The same network twice: uint8 with its own scaling, and floats in NCHW."""
    image = np.asarray(Image.fromarray(astronaut).resize((513, 513)))
    (one,), (other,) = portrait([image]), portrait_nchw([image])
    assert np.count_nonzero(one.mask != other.mask) <= 5
    assert np.abs(one.confidence.astype(int) - other.confidence).max() <= 2
    assert abs(int(one.mask.sum()) - 141095) < 100


@pytest.mark.real_data
def test_deeplab_finds_the_astronaut(astronaut, portrait):
    """Bounds read off the mask as a picture: head and suit (with the helmet), no flag or shuttle.

    The background beside the cheeks and the neck is rightly left out of the second rectangle.
    """
    (answer,) = portrait([astronaut])
    assert 0.51 < answer.mask.mean() < 0.57
    assert (answer.mask[80:140, 190:260] == 1).all()  # the face
    assert 0.92 < answer.mask[80:200, 170:270].mean() < 0.97
    assert answer.mask[300:500, 50:350].mean() > 0.97  # the suit
    assert answer.mask[:200, :100].mean() < 0.01  # the flag
    assert answer.mask[:300, 380:].mean() < 0.01  # the shuttle


@pytest.mark.real_data
def test_a_fixed_batch_of_one_is_run_one_by_one(portrait, scenes):
    assert portrait.batch_size == 1
    with pytest.raises(ValueError, match="got 2 pictures, expected 1 to 1"):
        portrait(scenes[:2])


@pytest.mark.parametrize("name", ["logits", "softmax", "sigmoid", "stride4"])
@pytest.mark.parametrize("mask_hw", [(40, 56), (37, 53), (16, 200)])
def test_bands_of_rows_give_what_the_whole_gives(saved, bound, picture, monkeypatch, name, mask_hw):
    """Large pictures are finished by bands; no pixel and no count may tell."""
    segmenter = Segmenter(saved(name), bound(name))
    whole = segmenter([picture(*mask_hw)])[0]
    row_bytes = mask_hw[1] * max(2, segmenter.binding.num_classes) * 4
    monkeypatch.setattr("models.segmenter._FINISH_BYTES", 7 * row_bytes)
    banded = segmenter([picture(*mask_hw)])[0]
    np.testing.assert_array_equal(banded.mask, whole.mask)
    np.testing.assert_array_equal(banded.confidence, whole.confidence)
    np.testing.assert_array_equal(banded.class_pixels, whole.class_pixels)
    np.testing.assert_array_equal(banded.histograms, whole.histograms)


@pytest.mark.parametrize("mask_hw", [(1, 20_000), (20_000, 1), (2, 30_000)])
def test_confidence_of_a_line_is_measured_in_its_middle(saved, bound, picture, mask_hw):
    """Where one side is shorter than the step at which confidence is looked at."""
    (answer,) = Segmenter(saved("logits"), bound("logits"))([picture(*mask_hw)])
    assert grid_step(mask_hw) > 2 * min(mask_hw)
    step = grid_step(mask_hw)
    line = answer.confidence.take(min(mask_hw) // 2, axis=int(mask_hw[0] > mask_hw[1]))
    seen = np.bincount(line[step // 2 :: step], minlength=256)
    np.testing.assert_array_equal(answer.histograms[0], seen)


def test_masks_at_the_models_size_are_argmaxes_of_its_own_scores(saved, bound, picture):
    binding = bound("logits", **{"input.size": (24, 32)})
    image = picture(48, 80)
    small = Segmenter(saved("logits"), binding, mask_at_model_size=True)([image])[0]
    segmenter = Segmenter(saved("logits"), binding)
    scores = segmenter.scores(segmenter.prepare(image[np.newaxis])).numpy()[0]
    np.testing.assert_array_equal(small.mask, scores.argmax(axis=-1))


def test_ids_that_fit_no_mask_are_told_and_never_wrap(tmp_path):
    import tensorflow as tf

    class Far(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8)])
        def ids(self, image):
            return {"ids": tf.cast(image[..., 0], tf.int64) + 2**32}

    tf.saved_model.save(far := Far(), str(tmp_path), signatures=far.ids)
    binding = bind(read_model(str(tmp_path)), load_card(None, {}))
    binding = dataclasses.replace(
        binding, kind="class_ids", output_layout="NHWC", classes=("a", "b")
    )
    assert not Segmenter(str(tmp_path), binding)([np.zeros((4, 4, 3), np.uint8)])[0].in_range


def test_ids_as_floats_are_asked_about(tmp_path):
    import tensorflow as tf

    class Floats(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8)])
        def ids(self, image):
            return {"ids": tf.cast(image[..., :1] // 64, tf.float32)}

    tf.saved_model.save(floats := Floats(), str(tmp_path), signatures=floats.ids)
    with pytest.raises(ModelError, match="output_kind=class_ids"):
        probe(str(tmp_path), bind(read_model(str(tmp_path)), load_card(None, {})))
    card = load_card(None, {"output.kind": "class_ids", "classes": ["a", "b", "c", "d"]})
    binding = probe(str(tmp_path), bind(read_model(str(tmp_path)), card))
    image = np.full((4, 4, 3), 200, np.uint8)
    assert (Segmenter(str(tmp_path), binding)([image])[0].mask == 3).all()

"""One graph for a batch gives what the graphs for a few pictures give."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from models import segmenter as segmenting
from models import shapes
from models.card import load_card
from models.probe import probe
from models.rules import bind
from models.segmenter import Segmenter
from models.signatures import read_model

NAMES = [
    "logits",
    "softmax",
    "sigmoid",
    "sigmoid_rank3",
    "int64",
    "bool",
    "int32",
    "stride4",
    "nchw_out",
    "classes300",
]
SIDES = [(32, 48), (33, 47)]
AT_ONCE = 2


@pytest.fixture
def at_once(monkeypatch):
    """Shapes come often when they come again, and a batch of six is shown by two."""
    monkeypatch.setattr(shapes, "_TIMES", 1)
    monkeypatch.setattr(Segmenter, "_at_once", lambda self, canvas_hw: AT_ONCE)


def same(one, other):
    assert one.finite == other.finite and one.in_range == other.in_range
    for name in ("mask", "confidence", "class_pixels", "histograms"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("size_hw", SIDES)
@pytest.mark.parametrize("name", NAMES)
def test_it_gives_the_same(saved, bound, picture, at_once, name, size_hw):
    segmenter = Segmenter(saved(name), bound(name), 6)
    pictures = [picture(*size_hw, seed) for seed in range(6)]
    segmenter(pictures)
    for one, other in zip(segmenter(pictures), segmenter._by_few(pictures, AT_ONCE), strict=True):
        same(one, other)
    assert len(segmenter._whole._graphs) == 1 and segmenter._whole._works


def test_a_batch_that_is_short_or_mixed_goes_by_few(saved, bound, picture, at_once):
    segmenter = Segmenter(saved("fixed"), bound("fixed"), 6)
    for sizes in ([(32, 48)] * 5, [(32, 48)] * 3 + [(48, 32)] * 3):
        pictures = [picture(*size_hw) for size_hw in sizes]
        segmenter(pictures)
        shown = [answer.mask.shape for answer in segmenter(pictures)]
        assert shown == sizes and not segmenter._whole._graphs


def test_shapes_that_come_seldom_have_no_graph(saved, bound, picture):
    segmenter = Segmenter(saved("logits"), bound("logits"), 2)
    for _ in range(shapes._TIMES):
        segmenter([picture(32, 48)] * 2)
    assert not segmenter._whole._graphs
    segmenter([picture(32, 48)] * 2)
    assert len(segmenter._whole._graphs) == 1


def test_a_model_that_no_graph_can_call_is_called_as_before(
    saved, bound, picture, at_once, monkeypatch
):
    segmenter = Segmenter(saved("logits"), bound("logits"), 6)
    predict = segmenter._predict

    def eager_only(image):
        image.numpy()  # a tensor in a graph has no values
        return predict(image=image)

    monkeypatch.setattr(segmenter, "_predict", eager_only)
    pictures = [picture(32, 48, seed) for seed in range(6)]
    segmenter(pictures)
    for one, other in zip(segmenter(pictures), segmenter._by_few(pictures, AT_ONCE), strict=True):
        same(one, other)
    assert not segmenter._whole._works


def test_a_batch_that_fails_raises_and_the_next_is_whole_again(
    saved, bound, picture, at_once, monkeypatch
):
    segmenter = Segmenter(saved("logits"), bound("logits"), 6)
    pictures = [picture(32, 48)] * 6
    for _ in range(2):
        segmenter(pictures)
    assert len(segmenter._whole._graphs) == 1
    with monkeypatch.context() as patched:
        patched.setattr(segmenter._whole, "_graph", lambda sizes: lambda images: 1 / 0)
        patched.setattr(segmenter, "_predict", lambda image: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            segmenter(pictures)
    assert segmenter._whole._works and len(segmenter(pictures)) == 6


def test_one_thread_makes_the_graph_and_the_others_go_on(
    saved, bound, picture, at_once, monkeypatch
):
    segmenter = Segmenter(saved("logits"), bound("logits"), 6)
    whole, begun, go_on = segmenter._whole, threading.Event(), threading.Event()
    make = whole._make

    def slow(sizes):
        begun.set()
        assert go_on.wait(60)
        return make(sizes)

    monkeypatch.setattr(whole, "_make", slow)
    segmenter([picture(32, 48)] * 6)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(segmenter, [picture(32, 48)] * 6)
        assert begun.wait(60)
        assert len(segmenter([picture(32, 48)] * 6)) == 6
        go_on.set()
        assert len(first.result()) == 6


@pytest.mark.parametrize(
    ("batch_size", "size_hw", "expected"),
    [(16, (256, 256), 8), (12, (256, 256), 12), (7, (512, 512), 1), (32, (32, 32), 32)],
)
def test_as_many_at_once_as_stay_near(saved, bound, batch_size, size_hw, expected, monkeypatch):
    """A divisor of the batch size: the bytes of pictures as floats, and of three scores a pixel."""
    monkeypatch.setattr(segmenting, "_NEAR_BYTES", 12 * 256 * 256 * 24)
    segmenter = Segmenter(saved("logits"), bound("logits"), batch_size)
    assert segmenter.binding.num_scores == 3
    assert segmenter._at_once(size_hw) == expected


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "card"),
    [
        ("deeplab_nchw_tf1", {"input.range": "-1,1"}),
        ("deeplab_portrait_tf1", {"input.max_side": 513}),
    ],
)
def test_models_of_others_give_the_same(real_data, at_once, monkeypatch, name, card):
    path = str(real_data / "saved_models" / name)
    binding = probe(path, bind(read_model(path), load_card(None, card)))
    files = sorted((real_data / "camvid_val" / "images").glob("*.png"))[::25][:4]
    pictures = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    segmenter = Segmenter(path, binding, 4)
    pictures = pictures[: segmenter.batch_size]
    monkeypatch.setattr(
        Segmenter, "_at_once", lambda self, canvas_hw: min(AT_ONCE, self.batch_size)
    )
    segmenter(pictures)
    for one, other in zip(segmenter(pictures), segmenter._by_few(pictures, AT_ONCE), strict=True):
        same(one, other)
    assert len(segmenter._whole._graphs) == 1

"""Windows equal the whole picture where that is possible: three networks, odd sizes."""

import dataclasses

import keras
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tiles import bound, near_seams, saved, tiled, unet

from models.halo import measure_halo
from models.loading import import_tensorflow
from models.pixel_scores import PixelScores
from models.segmenter import Segmenter
from models.views import views_of
from transforms.inputs import ImageFile, Shard
from transforms.segment import COLUMNS, SegmentOperator
from transforms.shard_work import process_shard
from transforms.sink import Sink
from transforms.tiling.windows import Tiling

tf = import_tensorflow()

SHIPPED = "models/shipped/digits_segmenter"


def strided():
    """Stride-2 convolutions of TensorFlow's "SAME", whose padding depends on the picture's size."""
    keras.utils.set_random_seed(5)
    image = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(1 / 255)(image)
    for width in (6, 8):
        x = keras.layers.Conv2D(width, 3, strides=2, padding="same", activation="relu")(x)
    x = keras.layers.Conv2DTranspose(8, 4, strides=4, activation="relu")(x)
    return keras.Model(image, keras.layers.Conv2D(5, 3, padding="same")(x)), 4


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """Path and binding by name of a network with random weights, and of the shipped one."""
    made = {"shipped": (SHIPPED, bound(SHIPPED))}

    def get(name):
        if name not in made:
            network, multiple = strided() if name == "strided" else unet(name)
            made[name] = saved(network, multiple, str(tmp_path_factory.mktemp("nets") / name))
        return made[name]

    return get


def picture(size_hw, seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (size_hw[0] // 9 + 2, size_hw[1] // 9 + 2, 3), np.uint8)
    image = Image.fromarray(coarse).resize(size_hw[::-1], Image.Resampling.BICUBIC)
    noisy = np.asarray(image) + rng.normal(0, 12, (*size_hw, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


FIELDS = {"shipped": 125 + 16, "batch": None, "strided": None}


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("size_hw", [(301, 233), pytest.param((199, 467), marks=pytest.mark.slow)])
def test_cropped_windows_give_the_logits_and_masks_of_the_whole(built, name, size_hw):
    path, binding = built(name)
    run = PixelScores(path, binding)
    halo = measure_halo(run)
    assert halo.is_local
    overlap = FIELDS[name] or halo.overlap_px
    tile = overlap + 64
    tiling = Tiling((tile, tile), (overlap, overlap), "crop", halo.period_px)
    image = picture(size_hw)
    (whole,) = run([image])
    got = tiled(run, image, tiling)
    assert np.abs(got - whole).max() <= 1e-4
    np.testing.assert_array_equal(got.argmax(-1), whole.argmax(-1))


@pytest.mark.parametrize("name", ["batch", "strided"])
def test_less_overlap_and_windows_off_the_grid_are_not_exact(built, name):
    path, binding = built(name)
    run = PixelScores(path, binding)
    image = picture((131, 117))
    (whole,) = run([image])
    for tiling in (
        Tiling((48, 48), (8, 8), "crop", 4),
        Tiling((95, 95), (64, 64), "crop", 1),
    ):
        assert np.abs(tiled(run, image, tiling) - whole).max() > 1e-3


def test_what_is_measured_is_what_the_layers_say(built):
    halo = measure_halo(PixelScores(*built("batch")))
    network, multiple = unet("batch")
    from models.networks.geometry import receptive_field

    field = max(receptive_field(network).size_hw)
    assert halo.period_px == multiple
    assert field // 2 - multiple <= halo.pixels <= field // 2 + multiple


def test_global_context_is_noticed(built):
    path, binding = built("instance")
    assert not measure_halo(PixelScores(path, binding), sides=(192,)).is_local


def test_seams_of_a_model_with_global_context_do_not_show(built):
    """Masks by windows differ near seams hardly more often than elsewhere."""
    path, binding = built("instance")
    run = PixelScores(path, binding)
    near_rate, far_rate = [], []
    for seed in range(3):
        image = picture((448, 512), seed)
        whole = run([image])[0].argmax(-1)
        tiling = Tiling((192, 192), (96, 96), "gaussian", 4)
        differs = tiled(run, image, tiling).argmax(-1) != whole
        near = near_seams(tiling, differs.shape)
        near_rate.append(differs[near].mean())
        far_rate.append(differs[~near].mean())
    assert np.mean(far_rate) > 0, "else it shows nothing"
    assert np.mean(near_rate) <= 1.2 * np.mean(far_rate)


def test_views_are_undone_and_averaged_as_probabilities(built):
    path, binding = built("batch")
    image = picture((41, 60))
    (got,) = PixelScores(path, binding, 3, views_of(["flips", "turns"]))([image])
    plain = PixelScores(path, binding)
    total = np.zeros_like(got)
    for flip in (False, True):
        for turns in range(4):
            shown = np.rot90(image[:, ::-1] if flip else image, turns)
            (scores,) = plain([np.ascontiguousarray(shown)])
            answer = np.rot90(tf.nn.softmax(scores).numpy(), -turns)
            total += answer[:, ::-1] if flip else answer
    np.testing.assert_allclose(got, total / 8, atol=1e-5)


# ---- a shard


def run_shard(tmp_path, built_model, images, name="out", **settings):
    root = tmp_path / "in"
    root.mkdir(exist_ok=True)
    files = []
    for index, image in enumerate(images):
        path = root / f"{index}.png"
        path.write_bytes(image) if isinstance(image, bytes) else Image.fromarray(image).save(path)
        files.append(ImageFile(path.name, str(index), path.stat().st_size))
    shard = Shard("in-00000-of-00001", str(root), 1, tuple(files))
    sink = Sink(str(tmp_path / name), "masks", "folder", COLUMNS)
    size = settings.pop("batch_size", 3)
    operator = SegmentOperator(*built_model, sink, size, threads=2, **settings)
    work = operator.open()
    report = process_shard(shard, lambda: work, sink)
    assert report.error is None, report.error
    rows = pq.read_table(f"{tmp_path}/{name}/records/{shard.name}.parquet").to_pylist()
    return report, rows


def mask_at(tmp_path, name, index, kind="masks"):
    with Image.open(tmp_path / name / kind / f"{index}.png") as image:
        return np.asarray(image)


def test_a_shard_by_windows_equals_one_of_whole_pictures(built, tmp_path):
    """Masks, confidence, rows and metrics; sizes around the window, and damage between."""
    k = 64
    sizes = [(1, 1), (k - 1, k), (k, k + 1), (2 * k - 1, 5), (97, 81)]
    images = [picture(size, i) for i, size in enumerate(sizes)]
    images.insert(2, b"nothing")
    images.append(b"")
    tiling = Tiling((k, k), (48, 48), "crop", 4)
    model = built("batch")
    run_settings = {"confidence_map": True}
    whole, whole_rows = run_shard(tmp_path, model, images, "whole", **run_settings)
    parts, part_rows = run_shard(tmp_path, model, images, "tiled", tiling=tiling, **run_settings)
    assert parts.failed_by_reason == whole.failed_by_reason == {"unsupported": 1, "empty": 1}
    for index, row in enumerate(part_rows):
        assert (row["status"], row["key"]) == (whole_rows[index]["status"], f"{index}.png")
        if row["status"] == "ok":
            np.testing.assert_array_equal(
                mask_at(tmp_path, "tiled", index), mask_at(tmp_path, "whole", index)
            )
            pair = [mask_at(tmp_path, d, index, "confidence") for d in ("tiled", "whole")]
            assert np.abs(pair[0].astype(int) - pair[1]).max() <= 1
            for name in ("width", "height", "brightness", "classes", "class_pixels"):
                assert row[name] == whole_rows[index][name]
    assert parts.sums["class_pixels"] == whole.sums["class_pixels"]
    assert parts.sums["pixels"] == whole.sums["pixels"]


def test_a_window_that_fails_costs_its_picture_alone(built, tmp_path, monkeypatch):
    images = [picture((100, 100), i) for i in range(4)]
    images[1][80:90, 80:90] = 7  # in its last window
    answer = Segmenter.answer

    def poisoned(self, pictures):
        if any((image == 7).all(axis=-1).sum() >= 100 for image in pictures):
            raise RuntimeError("poisoned")
        return answer(self, pictures)

    monkeypatch.setattr(Segmenter, "answer", poisoned)
    tiling = Tiling((64, 64), (36, 36), "gaussian", 4)
    report, rows = run_shard(tmp_path, built("batch"), images, tiling=tiling)
    assert [row["status"] for row in rows] == ["ok", "failed", "ok", "ok"]
    assert report.failed_by_reason == {"model_error": 1}
    assert "window of 64x64 at x" in rows[1]["message"] and "poisoned" in rows[1]["message"]


def test_windows_fill_the_batches_that_the_model_is_given(built, tmp_path, monkeypatch):
    """A batch that the size of answers makes short is not padded: that would be work for nothing.

    Of 16 windows by batches of 8; answers of 3 windows fit what may be held.
    """
    monkeypatch.setattr("transforms.tiling.tiled_work._ANSWER_BYTES", 3 * 64 * 64 * 4 * 4)
    given, called = [], Segmenter._call

    def spy(self, tensor):
        given.append(tensor.shape[0])
        return called(self, tensor)

    monkeypatch.setattr(Segmenter, "_call", spy)
    path, binding = built("batch")
    tiling = Tiling((64, 64), (32, 32), "crop", 4)
    for size_hw in (None, (64, 64)):
        given.clear()
        model = path, dataclasses.replace(binding, size_hw=size_hw)
        name = f"out{size_hw}"
        run_shard(tmp_path, model, [picture((160, 160))], name, batch_size=8, tiling=tiling)
        assert sum(given) == 16 + 2 * (size_hw is not None), "2 more to warm up"


def test_a_shard_with_views(built, tmp_path):
    images = [picture((40, 50), i) for i in range(3)]
    path, binding = built("batch")
    run_shard(tmp_path, (path, binding), images, views=views_of(["flips"]))
    (scores,) = PixelScores(path, binding, 2, views_of(["flips"]))([images[1]])
    np.testing.assert_array_equal(mask_at(tmp_path, "out", 1), scores.argmax(-1))


def test_a_model_of_one_size_is_shown_small_pictures_with_their_mirror_image(built, tmp_path):
    path, binding = built("batch")
    fixed = dataclasses.replace(binding, size_hw=(64, 64))
    images = [picture((40, 50)), picture((64, 64)), picture((100, 65))]
    tiling = Tiling((64, 64), (32, 32), "hann")
    _, rows = run_shard(tmp_path, (path, fixed), images, tiling=tiling)
    assert [(row["height"], row["width"]) for row in rows] == [(40, 50), (64, 64), (100, 65)]
    mirrored = np.pad(images[0], ((0, 24), (0, 14), (0, 0)), "symmetric")
    for index, shown in ((0, mirrored), (1, images[1])):
        (scores,) = PixelScores(path, fixed)([shown])
        height, width = images[index].shape[:2]
        expected = scores[:height, :width].argmax(-1)
        np.testing.assert_array_equal(mask_at(tmp_path, "out", index), expected)

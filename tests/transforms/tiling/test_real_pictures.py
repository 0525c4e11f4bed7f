"""Windows of real pictures: equal to the whole, without seams, and as good as its parts."""

from pathlib import Path

import keras
import numpy as np
import pytest
import skimage
from PIL import Image
from support import real_data
from tiles import near_seams, saved, tiled, unet

from models.halo import measure_halo
from models.pixel_scores import PixelScores
from transforms.inputs import ImageFile, Shard
from transforms.segment import COLUMNS, SegmentOperator
from transforms.shard_work import process_shard
from transforms.sink import Sink
from transforms.tiling.windows import Tiling

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def nets(tmp_path_factory):
    """A network without global operations and one with them, random weights: path and binding."""
    root = tmp_path_factory.mktemp("nets")
    return {norm: saved(*unet(norm), str(root / norm)) for norm in ("batch", "instance")}


def read(name):
    """uint8 [H, W, 3]: of scikit-image, or of CamVid, twice as large."""
    if name == "camvid":
        path = sorted(Path(real_data("camvid_val"), "images").iterdir())[0]
        with Image.open(path) as image:
            larger = [2 * side for side in image.size]
            return np.asarray(image.convert("RGB").resize(larger, Image.Resampling.BICUBIC))
    with Image.open(Path(skimage.__file__).parent / "data" / name) as image:
        return np.asarray(image.convert("RGB"))


PICTURES = [
    "retina.jpg",
    "hubble_deep_field.jpg",
    pytest.param("camvid", marks=pytest.mark.real_data),
]


@pytest.mark.parametrize("name", PICTURES)
def test_windows_give_the_logits_and_mask_of_the_whole(nets, name):
    run = PixelScores(*nets["batch"])
    halo = measure_halo(run)
    tiling = Tiling((384, 384), (halo.overlap_px,) * 2, "crop", halo.period_px)
    image = read(name)
    (whole,) = run([image])
    got = tiled(run, image, tiling)
    assert np.abs(got - whole).max() <= 1e-4
    np.testing.assert_array_equal(got.argmax(-1), whole.argmax(-1))


@pytest.mark.parametrize("name", PICTURES)
def test_windows_of_a_model_with_global_context_have_no_seams(nets, name):
    run = PixelScores(*nets["instance"])
    image = read(name)
    whole = run([image])[0].argmax(-1)
    tiling = Tiling((384, 384), (192, 192), "gaussian", 4)
    differs = tiled(run, image, tiling).argmax(-1) != whole
    near = near_seams(tiling, whole.shape)
    assert 0 < differs[near].mean() <= 1.2 * differs[~near].mean()


# ---- a mosaic whose true mask is known

CELLS = 16  # each way; 4,096 x 4,096 pixels, which are decoded by rows


def blurs(sigmas=(1, 2, 4), hidden=32):
    """uint8 [N, H, W, 3] -> [N, H, W, hidden]: random mixtures of what is around a pixel."""
    keras.utils.set_random_seed(0)
    image = keras.Input((None, None, 3))
    scaled = keras.layers.Rescaling(1 / 255)(image)
    parts = [scaled]
    for sigma in sigmas:
        place = np.arange(-3 * sigma, 3 * sigma + 1)
        bell = np.exp(-(place**2) / (2 * sigma**2))
        x = scaled
        for shape in ((-1, 1), (1, -1)):
            kernel = np.repeat((bell / bell.sum()).reshape(*shape, 1, 1), 3, axis=2)
            blur = keras.layers.DepthwiseConv2D(kernel.shape[:2], padding="same", use_bias=False)
            x = blur(x)
            blur.set_weights([kernel])
        parts.append(x)
    mixed = keras.layers.Conv2D(
        hidden,
        1,
        activation="relu",
        kernel_initializer=keras.initializers.RandomNormal(stddev=2.0),
        bias_initializer=keras.initializers.RandomUniform(-1, 1),
    )(keras.layers.Concatenate()(parts))
    return keras.Model(image, mixed)


def fitted(pairs):
    """A network that finds nuclei: `blurs`, and a linear layer by least squares."""
    network = blurs()
    rng = np.random.default_rng(0)
    seen, wanted = [], []
    for image, mask in pairs:
        some = rng.choice(mask.size, 2000, replace=False)
        seen.append(network(image[np.newaxis].astype(np.float32)).numpy()[0].reshape(mask.size, -1))
        seen[-1] = seen[-1][some]
        wanted.append(mask.ravel()[some])
    inputs = np.concatenate(seen)
    inputs = np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1)
    weights, *_ = np.linalg.lstsq(inputs, 2.0 * np.concatenate(wanted) - 1, rcond=None)
    score = keras.layers.Conv2D(2, 1)
    model = keras.Model(network.input, score(network.output))
    both = np.stack([np.zeros(len(weights)), weights], axis=1)  # of the background 0
    score.set_weights([both[:-1].reshape(1, 1, -1, 2), both[-1]])
    return model


def segmented(model, images, folder, tiling=None):
    """Masks of pictures, by a shard of files."""
    source = folder / "in"
    source.mkdir(parents=True)
    files = []
    for index, image in enumerate(images):
        path = source / f"{index:04d}.png"
        Image.fromarray(image).save(path, compress_level=1)
        files.append(ImageFile(path.name, path.stem, path.stat().st_size))
    sink = Sink(str(folder / "out"), "masks", "folder", COLUMNS)
    work = SegmentOperator(*model, sink, 4, threads=2, tiling=tiling).open()
    shard = Shard("in-00000-of-00001", str(source), len(files), tuple(files))
    report = process_shard(shard, lambda: work, sink)
    assert (report.error, report.written) == (None, len(images))
    masks = []
    for file in files:
        with Image.open(folder / "out" / "masks" / f"{file.output_name}.png") as image:
            masks.append(np.asarray(image))
    return masks


def iou(masks, truths):
    """Of nuclei, over all pixels."""
    both = sum(int(((a == 1) & (b == 1)).sum()) for a, b in zip(masks, truths, strict=True))
    either = sum(int(((a == 1) | (b == 1)).sum()) for a, b in zip(masks, truths, strict=True))
    return both / either


@pytest.mark.real_data
def test_a_mosaic_by_windows_is_as_good_as_its_pictures(tmp_path):
    root = Path(real_data("nuclei_dsb2018"))
    pairs = []
    for path in sorted((root / "images").iterdir()):
        with Image.open(path) as image, Image.open(root / "masks" / path.name) as mask:
            if image.size == (256, 256):
                pairs.append((np.asarray(image.convert("RGB")), np.asarray(mask)))
    model = saved(fitted(pairs[::2]), 1, str(tmp_path / "model"))
    grid = [[pairs[(row * CELLS + i) % len(pairs)] for i in range(CELLS)] for row in range(CELLS)]
    picture, truth = (
        np.concatenate([np.concatenate([cell[which] for cell in row], axis=1) for row in grid])
        for which in (0, 1)
    )
    each = segmented(model, [image for image, _ in pairs], tmp_path / "each")
    counts = np.bincount(np.arange(CELLS**2) % len(pairs))
    repeated = [i for i, count in enumerate(counts) for _ in range(count)]
    alone = iou([each[i] for i in repeated], [pairs[i][1] for i in repeated])
    tiling = Tiling((512, 512), (24, 24), "crop")
    (joined,) = segmented(model, [picture], tmp_path / "mosaic", tiling)
    assert alone > 0.6, "a model that finds nothing shows nothing"
    assert abs(iou([joined], [truth]) - alone) <= 0.005

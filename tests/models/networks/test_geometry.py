"""Receptive fields against brute force: which rows and columns of the picture reach an output."""

from fractions import Fraction

import keras
import numpy as np
import pytest
from keras import layers

from models.errors import ModelError
from models.networks.geometry import Field, receptive_field

Tensor = keras.KerasTensor


def brute_windows(model: keras.Model, size_hw: tuple[int, int]) -> tuple[int, int]:
    """The most rows and columns that an output depends on.

    All weights are positive and no layer has a bias, so nothing cancels: an output is above 0
    exactly if it sees one of the pixels that are 1, here those of one row or one column.
    """
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in model.get_weights()])
    found = []
    for axis, size in enumerate(size_hw):
        pictures = np.zeros((size, *size_hw, 1), np.float32)
        for index in range(size):
            pictures[index][(slice(None),) * axis + (index,)] = 1
        answers = np.asarray(model(pictures))
        reached = (answers > 0).any(axis=(2 - axis, 3))
        found.append(max(_extent(column) for column in reached.T))
    return found[0], found[1]


def _extent(reached: np.ndarray) -> int:
    places = np.flatnonzero(reached)
    return int(places[-1] - places[0] + 1) if len(places) else 0


def _layer(rng: np.random.Generator, x: Tensor) -> Tensor:
    """A random layer that Keras can run; the sizes of rows and columns differ."""
    kernel = tuple(int(k) for k in rng.integers(1, 5, 2))
    stride = tuple(int(s) for s in rng.integers(1, 4, 2))
    padding = str(rng.choice(["same", "valid"]))
    plain = {"padding": padding, "use_bias": False}
    match rng.integers(12):
        case 0 | 1:
            return layers.Conv2D(1, kernel, strides=stride, **plain)(x)
        case 2:
            dilation = tuple(int(d) for d in rng.integers(1, 4, 2))
            return layers.Conv2D(1, kernel, dilation_rate=dilation, **plain)(x)
        case 3:
            return layers.DepthwiseConv2D(kernel, strides=int(stride[0]), **plain)(x)
        case 4:
            return layers.SeparableConv2D(1, kernel, strides=int(stride[0]), **plain)(x)
        case 5:
            return layers.MaxPooling2D(kernel, strides=stride, padding=padding)(x)
        case 6:
            return layers.AveragePooling2D(kernel, padding=padding)(x)
        case 7 | 8:
            return layers.Conv2DTranspose(1, kernel, strides=stride, **plain)(x)
        case 9:
            return layers.UpSampling2D(
                stride, interpolation=str(rng.choice(["nearest", "bilinear"]))
            )(x)
        case 10:
            return layers.ZeroPadding2D(((1, 2), (0, 3)))(x)
        case _:
            return layers.Cropping2D(((1, 0), (0, 2)))(x)


def _random_model(seed: int) -> tuple[keras.Model, tuple[int, int]]:
    rng = np.random.default_rng(seed)
    size_hw = tuple(int(n) for n in rng.integers(61, 80, 2))
    inputs = x = keras.Input((*size_hw, 1))
    for _ in range(rng.integers(1, 5)):
        before, x = x, _layer(rng, x)
        if min(x.shape[1:3]) < 12 or max(x.shape[1:3]) > 200:
            x = before
        if rng.random() < 0.3:  # a branch of another field joins
            branch = layers.Conv2D(1, 3, dilation_rate=2, padding="same", use_bias=False)(x)
            x = layers.Add()([x, branch])
    return keras.Model(inputs, x), size_hw


@pytest.mark.parametrize("seed", range(30))
def test_random_networks(seed: int) -> None:
    model, size_hw = _random_model(seed)
    field = receptive_field(model)
    assert field.window_hw == brute_windows(model, size_hw)
    assert field.whole_by is None


def small_unet(size: int | None, up: type[layers.Layer], depth: int = 2) -> keras.Model:
    inputs = x = keras.Input((size, size, 1))
    skips = []
    for _ in range(depth):
        x = layers.Conv2D(1, 3, padding="same", use_bias=False)(x)
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    for skip in reversed(skips):
        if up is layers.Conv2DTranspose:
            x = up(1, 2, strides=2, use_bias=False)(x)
        else:
            x = up(2, interpolation="bilinear")(x)
        x = layers.Concatenate()([x, skip])
        x = layers.Conv2D(1, 3, padding="same", use_bias=False)(x)
    return keras.Model(inputs, x)


@pytest.mark.parametrize("up", [layers.Conv2DTranspose, layers.UpSampling2D])
def test_a_unet_of_any_size_has_the_field_of_one_of_a_multiple(up: type[layers.Layer]) -> None:
    field = receptive_field(small_unet(None, up))
    fixed = small_unet(64, up)
    assert field == receptive_field(fixed)
    assert field.window_hw == brute_windows(fixed, (64, 64))
    assert field.stride_hw == (1, 1)
    assert field.period_hw == (4, 4)


@pytest.mark.parametrize("up", [layers.Conv2DTranspose, layers.UpSampling2D])
def test_a_tile_with_its_margin_gives_what_the_picture_gives(up: type[layers.Layer]) -> None:
    """And with one pixel less it does not: the margins are needed, and enough."""
    whole, tiled = small_unet(96, up), small_unet(None, up)
    rng = np.random.default_rng(3)
    weights = [rng.uniform(0.5, 1.5, w.shape) for w in whole.get_weights()]
    whole.set_weights(weights)
    tiled.set_weights(weights)
    field = receptive_field(tiled)
    assert field.margins_hw is not None and field.period_hw is not None
    (above, below), _ = field.margins_hw
    picture = np.zeros((1, 96, 96, 1), np.float32)
    reached = []
    for row in range(96):
        picture[:] = 0
        picture[:, row] = 1
        seen_by = np.flatnonzero(np.asarray(whole(picture))[0, :, 48, 0])
        reached += [row - seen_by.min(), seen_by.max() - row]
        assert seen_by.max() - row <= above and row - seen_by.min() <= below
    assert max(reached) == max(above, below)
    picture = rng.uniform(size=(1, 96, 96, 1)).astype(np.float32)
    period = field.period_hw[0]
    first = 32 - -(-above // period) * period
    tile = picture[:, first : 64 + -(-below // period) * period]
    expected = np.asarray(whole(picture))[:, 32:64]
    found = np.asarray(tiled(tile))[:, 32 - first : 64 - first]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_single_path_has_the_closed_form_of_araujo_norris_and_sim() -> None:
    kernels, strides = [7, 3, 5, 2, 3], [2, 2, 1, 3, 1]
    model = keras.Sequential([keras.Input((None, None, 3))])
    for kernel, stride in zip(kernels, strides, strict=True):
        model.add(layers.Conv2D(2, kernel, strides=stride))
    steps = np.cumprod([1, *strides])
    expected = 1 + sum((k - 1) * int(s) for k, s in zip(kernels, steps, strict=False))
    assert receptive_field(model).size_hw == (expected, expected)
    assert receptive_field(model).stride_hw == (12, 12)


def test_vgg16_is_as_published() -> None:
    """Araujo, Norris and Sim give 212 for VGG-16 up to its last pooling (conv5_3: 196)."""
    model = keras.applications.VGG16(include_top=False, weights=None)
    assert receptive_field(model).size_hw == (212, 212)
    conv5_3 = keras.Model(model.input, model.get_layer("block5_conv3").output)
    assert receptive_field(conv5_3).size_hw == (196, 196)


def test_upsampling_has_a_stride_below_one() -> None:
    model = keras.Sequential([keras.Input((None, None, 1)), layers.UpSampling2D((2, 3))])
    assert receptive_field(model) == Field(
        (1, 1), ((0, 0), (0, 0)), (Fraction(1, 2), Fraction(1, 3)), (1, 1), None
    )


def test_same_padding_of_an_odd_size_moves_the_branches() -> None:
    """37 = 2 * 18 + 1: the stride of 2 pads on both sides, and its windows lie otherwise."""

    def network(size: int) -> keras.Model:
        inputs = keras.Input((size, size, 1))
        x = layers.Conv2D(1, 3, strides=2, padding="same", use_bias=False)(inputs)
        y = layers.Conv2D(1, 1, strides=2, use_bias=False)(inputs)
        return keras.Model(
            inputs,
            layers.Add()(
                [x, layers.ZeroPadding2D(((2, 0), (2, 0)))(layers.Cropping2D(((0, 2), (0, 2)))(y))]
            ),
        )

    windows = [receptive_field(network(size)).window_hw for size in (36, 37)]
    assert windows == [brute_windows(network(size), (size, size)) for size in (36, 37)]
    assert windows[0] != windows[1]


def test_branches_of_periods_2_and_3_have_one_of_6() -> None:
    inputs = keras.Input((60, 60, 1))
    halves, thirds = (layers.UpSampling2D(n)(layers.MaxPooling2D(n)(inputs)) for n in (2, 3))
    model = keras.Model(inputs, layers.Maximum()([halves, thirds]))
    field = receptive_field(model)
    assert (field.window_hw, field.period_hw) == ((4, 4), (6, 6))
    assert brute_windows(model, (60, 60)) == (4, 4)


@pytest.mark.parametrize(
    "interpolation", ["nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"]
)
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_interpolation(interpolation: str, factor: int) -> None:
    upsample = layers.UpSampling2D(factor, interpolation=interpolation)
    field = receptive_field(keras.Sequential([keras.Input((None, None, 1)), upsample]))
    impulses = np.eye(24, dtype=np.float32)[:, :, None, None]
    reached = np.abs(np.asarray(upsample(impulses))[:, :, 0, 0]) > 1e-5
    inside = reached[:, 6 * factor : -6 * factor]  # the border is continued, which adds weights
    assert field.window_hw is not None
    assert field.window_hw[0] == max(_extent(column) for column in inside.T)


def test_nested_models_are_looked_into() -> None:
    block = keras.Sequential(
        [keras.Input((None, None, 4)), layers.Conv2D(4, 3), layers.ReLU()], name="block"
    )
    inputs = keras.Input((None, None, 3))
    x = block(block(layers.Conv2D(4, 1)(inputs)))
    inner = keras.Model(inputs, x)
    outer = keras.Sequential([keras.Input((None, None, 3)), inner, layers.MaxPooling2D()])
    assert receptive_field(outer).size_hw == (6, 6)
    assert receptive_field(outer).stride_hw == (2, 2)


def test_operators_between_tensors_and_wrapped_weights() -> None:
    inputs = keras.Input((None, None, 3))
    x = layers.SpectralNormalization(layers.Conv2D(3, 3, padding="same"))(inputs)
    x = keras.ops.relu(2 * x + inputs)
    x = layers.Dense(3)(layers.LayerNormalization()(layers.BatchNormalization()(x)))
    assert receptive_field(keras.Model(inputs, x)).size_hw == (3, 3)


def test_labels_do_not_count() -> None:
    inputs, label = keras.Input((None, None, 3)), keras.Input((1,))
    x = layers.Conv2D(4, 3, padding="same")(inputs)
    code = layers.Reshape((1, 1, 4))(layers.Dense(4)(label))
    model = keras.Model([inputs, label], layers.Multiply()([x, code]))
    assert receptive_field(model).size_hw == (3, 3)


WHOLE = {
    "dense": [layers.Flatten(), layers.Dense(2, name="dense")],
    "pool": [layers.GlobalAveragePooling2D(name="pool"), layers.Dense(2)],
    "kept": [layers.GlobalMaxPooling2D(keepdims=True, name="kept"), layers.UpSampling2D(8)],
    "group": [layers.GroupNormalization(2, name="group"), layers.Conv2D(2, 3)],
    "instance": [layers.GroupNormalization(-1, name="instance")],
    "layer": [layers.LayerNormalization(axis=(1, 2, 3), name="layer")],
    "softmax": [layers.Softmax(axis=[1, 2], name="softmax")],
    "turned": [layers.Permute((2, 1, 3)), layers.Conv2D(1, 3, name="turned")],
    "tokens": [layers.Reshape((64, 4)), layers.Dense(3), layers.Reshape((8, 8, 3)),
               layers.Conv2D(1, 3, name="tokens")],
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
def test_layers_that_see_the_whole_picture_are_told(name: str) -> None:
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(4, 3, padding="same")])
    for layer in WHOLE[name]:
        model.add(layer)
    field = receptive_field(model)
    assert field.size_hw is None
    assert field.whole_by == name


def test_normalisation_over_the_picture_leaves_the_windows_known() -> None:
    inputs = keras.Input((None, None, 3))
    x = layers.GroupNormalization(2, name="norm")(layers.Conv2D(4, 3, strides=2)(inputs))
    field = receptive_field(keras.Model(inputs, x))
    assert (field.size_hw, field.window_hw, field.stride_hw) == (None, (3, 3), (2, 2))


def test_attention_squeeze_and_drifting_branches_see_the_whole() -> None:
    inputs = keras.Input((8, 8, 4))
    attended = layers.MultiHeadAttention(1, 4, name="attend")(inputs, inputs)
    assert receptive_field(keras.Model(inputs, attended)).whole_by == "attend"
    weights = layers.GlobalAveragePooling2D(keepdims=True, name="squeeze")(inputs)
    squeezed = layers.Multiply()([inputs, layers.Dense(4)(weights)])
    field = receptive_field(keras.Model(inputs, squeezed))
    assert (field.whole_by, field.window_hw) == ("squeeze", (1, 1))
    strided = layers.Conv2D(4, 1, strides=2)(inputs)
    drifting = layers.Add(name="add")([strided, layers.Cropping2D(2)(inputs)])
    assert receptive_field(keras.Model(inputs, drifting)).whole_by == "add"
    stacked = layers.Concatenate(axis=1, name="stack")([inputs, inputs])
    assert receptive_field(keras.Model(inputs, stacked)).whole_by == "stack"


def test_channels_may_come_first_but_in_all_layers() -> None:
    first = {"data_format": "channels_first"}
    model = keras.Sequential([keras.Input((3, None, 40)), layers.Conv2D(2, (3, 5), **first)])
    assert receptive_field(model).size_hw == (3, 5)
    inside = keras.Sequential([keras.Input((2, None, None)), layers.MaxPooling2D(2, **first)])
    model.add(inside)
    assert receptive_field(model).stride_hw == (2, 2)
    inputs = keras.Input((2, 8, 8))
    mixed = layers.Conv2D(2, 1)(inside(inputs))
    with pytest.raises(ModelError, match="has channels_first, others of its model channels_last"):
        receptive_field(keras.Model(inputs, mixed))


def test_what_has_no_field_is_refused() -> None:
    class Own(keras.Model):
        def call(self, x: Tensor) -> Tensor:
            return x

    with pytest.raises(ModelError, match="'own' is no graph of layers"):
        receptive_field(Own(name="own"))
    with pytest.raises(ModelError, match="no graph of layers"):
        receptive_field(keras.Sequential([layers.Conv2D(1, 3)]))
    inputs, noise = keras.Input((8, 8, 1)), keras.Input((4,))
    with pytest.raises(ModelError, match="2 outputs"):
        receptive_field(keras.Model(inputs, [inputs, layers.ReLU()(inputs)]))
    with pytest.raises(ModelError, match="0 inputs of rank 4"):
        receptive_field(keras.Model(noise, layers.Dense(3)(noise)))
    with pytest.raises(ModelError, match="does not depend on its picture"):
        receptive_field(keras.Model([inputs, noise], layers.Dense(3)(noise)))
    strange = layers.Lambda(lambda x: x[:, ::-1], name="strange")(inputs)
    with pytest.raises(ModelError, match="layer 'strange' is a Lambda"):
        receptive_field(keras.Model(inputs, strange))

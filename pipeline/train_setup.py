"""From flags and data to a network that can be trained: what `train` and `study` share."""

import argparse
import dataclasses
import sys
from importlib.metadata import version
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from models.errors import UserError
from models.loading import import_tensorflow
from models.networks.classifier import ClassifierConfig
from models.networks.generator import GeneratorConfig
from models.networks.linknet import LinkNetConfig
from models.networks.losses import balancing_weights
from models.networks.unet import GROUPS, UNetConfig
from pipeline import train_gan, trainees
from pipeline.train_batches import Settings, Trained, crops_of
from transforms.decode import DecodePolicy
from transforms.feature_names import FeatureNames
from transforms.inputs import Plan, cut, plan_images
from transforms.label_sources.layouts import class_folders
from transforms.listing import list_input
from transforms.sources import told_of
from transforms.training_checks import usual_size_hw
from transforms.training_data import Examples, Reading, Survey, TrainingSet

tf = import_tensorflow()

NetworkConfig = UNetConfig | LinkNetConfig | ClassifierConfig | GeneratorConfig
_FILES_PER_SHARD = 256
_LARGEST_SIDE_PX = 128  # at which a classifier sees pictures, unless told
# Flags that are not for all kinds of networks: for which, and their defaults.
_OF_SOME: dict[str, tuple[tuple[str, ...], Any]] = {
    "ignore_id": (("segmenter",), 255),
    "crop_px": (("segmenter",), 256),
    "network": (("segmenter",), "unet"),
    "norm": (("segmenter",), "batch"),
    "mask_feature": (("segmenter",), "image/segmentation/class/encoded"),
    "label_feature": (("classifier", "generator"), "image/class/label"),
    "image_size": (("classifier", "generator"), None),
    "class_weights": (("segmenter", "classifier"), "balanced"),
    "patience": (("segmenter", "classifier"), 20),
    "depth": (("segmenter", "classifier"), None),
}


@dataclasses.dataclass(frozen=True)
class Usual:
    """What a kind of network is trained with unless a flag says otherwise."""

    epochs: int
    batch_size: int
    learning_rate: float
    augment: tuple[str, ...]
    width: int
    depth: int


USUAL = {
    "segmenter": Usual(20, 8, 1e-3, ("flip", "scale", "colour"), 16, 4),
    "classifier": Usual(40, 32, 2e-3, ("shift", "scale", "colour"), 16, 2),
    "generator": Usual(110, 64, 1e-3, (), 12, 0),
}


def checked(flags: argparse.Namespace) -> argparse.Namespace:
    """The flags with their defaults, unless one would have no effect on this kind of network.

    The precision becomes the name of a policy of Keras.

    Raises:
        UserError: it would not.
    """
    filled = argparse.Namespace(**vars(flags))
    for name, (kinds, default) in _OF_SOME.items():
        if getattr(flags, name, None) is None:
            setattr(filled, name, default)
        elif flags.kind not in kinds:
            raise UserError(
                f"--{name} has no effect on a {flags.kind}, only on a {' or a '.join(kinds)}; "
                "leave the flag out"
            )
    filled.precision = _precision(flags.kind, flags.precision)
    return filled


def _are_labelled(plan: Plan, label_feature: str) -> bool:
    """Whether a table beside the images tells the label of each."""
    files = [file for shard in plan.shards for file in shard.files]
    return all(label_feature in told_of(file)[0] for file in files)


def plan_training(flags: argparse.Namespace, out: str) -> tuple[Plan, Reading]:
    """What is read, and how. Raises UserError."""
    listing = list_input(flags.input, out, flags.input_format)
    plan = cut(listing, _FILES_PER_SHARD)
    folders: tuple[str, ...] = ()
    wanted: Any = "masks" if flags.kind == "segmenter" else "labels"
    if plan.kind == "images" and wanted == "masks":
        plan = plan_images(listing, _FILES_PER_SHARD, pair=True)
        if not plan.masks:
            raise UserError(
                f"{flags.input} holds images without masks; a mask is masks/a.png for "
                "images/a.jpg, or a_mask.png for a.jpg"
            )
    elif plan.kind == "images" and not _are_labelled(plan, flags.label_feature):
        paths = [file.path for shard in plan.shards for file in shard.files]
        folders = class_folders(paths, listing.root, flags.classes or ())
    reading = Reading(
        wanted=wanted,
        names=FeatureNames(flags.image_feature, flags.key_feature),
        mask_feature=flags.mask_feature,
        label_feature=flags.label_feature,
        folders=folders,
        policy=DecodePolicy(flags.max_pixels),
    )
    return plan, reading


def read_survey(data: TrainingSet) -> Survey:
    """Reads all examples once, with a line on a terminal. Raises UserError."""

    def say(count: int) -> None:
        if sys.stderr.isatty() and count % 50 == 0:
            sys.stderr.write(f"\rreading examples: {count:,}")

    try:
        return data.survey(say)
    except OSError as error:
        raise UserError(f"cannot read {error.filename}: {error.strerror}") from error
    finally:
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")


def settings_of(flags: argparse.Namespace) -> Settings:
    """The settings that flags give, or what is usual for the kind of network."""
    usual = USUAL[flags.kind]
    return Settings(
        seed=flags.seed,
        epochs=flags.epochs or usual.epochs,
        batch_size=flags.batch_size or usual.batch_size,
        learning_rate=flags.learning_rate or usual.learning_rate,
        augment=usual.augment if flags.augment is None else flags.augment,
    )


def shown_in_an_epoch(flags: argparse.Namespace, survey: Survey) -> int:
    """Examples that an epoch shows: pictures, or the squares of a segmenter."""
    if flags.kind != "segmenter":
        return len(survey.keys["train"])
    sizes = survey.sizes_hw["train"]
    return sum(n * crops_of(size_hw, flags.crop_px) for size_hw, n in sizes.items())


def identity_of(
    flags: argparse.Namespace, settings: Settings, config: NetworkConfig, classes: list[str]
) -> dict[str, Any]:
    """What decides a training besides its data."""
    return {
        "settings": dataclasses.asdict(settings),
        "network": dataclasses.asdict(config),
        "classes": classes,
        "ignore_id": flags.ignore_id,
        "class_weights": flags.class_weights,
        "crop_px": flags.crop_px,
        "precision": flags.precision,
        "versions": {name: version(name) for name in ("tensorflow", "keras", "pillow")},
    }


def prepare_keras(flags: argparse.Namespace) -> None:
    """Makes trainings of this process repeatable, at the precision that is asked for."""
    tf.config.experimental.enable_op_determinism()
    keras.config.set_dtype_policy(flags.precision)


def trainee_of(
    flags: argparse.Namespace,
    data: Examples,
    count: int,
    class_counts: npt.NDArray[np.int64],
    *,
    config: NetworkConfig,
    settings: Settings,
) -> Trained:
    """The network with the weights of its seed, and what trains it.

    Args:
        count: examples that an epoch shows.
        class_counts: int64 [any], pixels or pictures by class id; ids beyond the classes are left
            out.
    """
    keras.utils.set_random_seed(settings.seed)
    if isinstance(config, GeneratorConfig):
        return train_gan.generator(data, count, config, settings)
    counts = np.zeros(config.classes, np.int64)
    seen = class_counts[: config.classes]
    counts[: len(seen)] = seen
    ignored = flags.ignore_id if flags.kind == "segmenter" else -1
    weights = _weights(counts, flags.class_weights, ignored)
    if isinstance(config, ClassifierConfig):
        return trainees.classifier(data, count, config, settings, class_weights=weights)
    return trainees.segmenter(
        data,
        count,
        config,
        settings,
        crop_px=flags.crop_px,
        class_weights=weights,
        ignore_id=flags.ignore_id,
    )


def network_config(flags: argparse.Namespace, classes: int, survey: Survey) -> NetworkConfig:
    """The network that flags ask for. Raises UserError."""
    width, depth = flags.width or USUAL[flags.kind].width, flags.depth or USUAL[flags.kind].depth
    if flags.kind == "segmenter":
        config: UNetConfig | LinkNetConfig = UNetConfig(classes, depth, width, flags.norm)
        if flags.network == "linknet":
            if flags.norm != "batch":
                raise UserError(
                    f"--norm={flags.norm}: a linknet has batch normalisation; leave it out"
                )
            config = LinkNetConfig(classes, depth, width)
        if flags.crop_px % config.multiple_px:
            raise UserError(
                f"--crop_px={flags.crop_px} is no multiple of {config.multiple_px}, which depth "
                f"{depth} needs"
            )
        if flags.norm == "group" and width % GROUPS:
            raise UserError(
                f"--width={width} is no multiple of {GROUPS}, which --norm=group needs; give one, "
                "or another --norm"
            )
        return config
    size_hw = flags.image_size or usual_size_hw(survey, _LARGEST_SIDE_PX)
    if flags.kind == "generator" and not flags.image_size:
        height, width_px = (max(8, round(side / 4) * 4) for side in size_hw)
        size_hw = (height, width_px)
    if "turn" in (flags.augment or ()) and size_hw[0] != size_hw[1]:
        raise UserError(
            f"pictures are seen at {size_hw[0]}x{size_hw[1]}, --augment=turn needs a square; give "
            "one by --image_size, or leave it out"
        )
    if flags.kind == "generator":
        if any(side % 4 or not 8 <= side <= 128 for side in size_hw):
            raise UserError(
                f"--image_size is {size_hw[0]}x{size_hw[1]}; a generator makes pictures whose "
                "sides are multiples of 4 from 8 to 128"
            )
        return GeneratorConfig(size_hw, classes, 1 if survey.grey else 3, width=width)
    if min(size_hw) < 2**depth:
        raise UserError(
            f"pictures are seen at {size_hw[0]}x{size_hw[1]}, --depth={depth} needs sides of "
            f"{2**depth} or more; lower it, or give another --image_size"
        )
    return ClassifierConfig(classes, size_hw, depth, width)


def _weights(counts: npt.NDArray[np.int64], how: str, ignored: int) -> npt.NDArray[np.float64]:
    """By class id; of a class that is the ignore id 1, whatever its count: it is never learned."""
    weights = np.ones(len(counts))
    if how == "balanced":
        taught = np.arange(len(counts)) != ignored
        weights[taught] = balancing_weights(counts[taught])
    return weights


def _precision(kind: str, given: str) -> str:
    """Keras' policy: 16-bit floats where a GPU computes them faster.

    Raises:
        UserError: the two networks of a generator, whose losses differ by orders, need float32.
    """
    if kind == "generator":
        if given not in ("auto", "float32"):
            raise UserError(f"--precision={given}: a generator is trained in float32; leave it out")
        return "float32"
    if given != "auto":
        return {"float16": "mixed_float16", "bfloat16": "mixed_bfloat16"}.get(given, given)
    return "mixed_float16" if tf.config.list_physical_devices("GPU") else "float32"

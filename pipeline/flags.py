"""Groups of flags that several commands have."""

import argparse
from typing import Any

from pipeline.dataflow import flags as launch_flags
from pipeline.flag_values import (
    field_value,
    fraction,
    number_pair,
    numbers,
    percent,
    positive,
    positive_or_auto,
    reasons,
    seconds,
    size,
    whole,
    words,
)
from transforms.feature_names import SCHEMAS

# as in transforms/formats/registry.py, which takes a while to import
INPUT_FORMATS = ("tfrecord", "tar", "parquet", "array_record", "folder")
OUTPUT_FORMATS = ("tfrecord", "tar", "tar.gz", "parquet", "array_record", "folder")


def add_run_flags(command: argparse.ArgumentParser, input_required: bool = True) -> None:
    group = command.add_argument_group("input and output")
    group.add_argument(
        "--input", required=input_required, metavar="WHAT", help="folder, glob, name@N or list"
    )
    group.add_argument("--output", required=True, metavar="OUT", help="folder for the results")
    group.add_argument(
        "--overwrite", action="store_true", help="delete the run that is in OUT and start anew"
    )
    group.add_argument(
        "--new_run",
        action="store_true",
        help="put the results into a new folder below OUT, named by date and time (UTC); it is "
        "printed, and is the --output with which that run goes on",
    )
    add_input_format(group)
    group.add_argument(
        "--output_format",
        choices=("auto", *OUTPUT_FORMATS),
        default="auto",
        help="of the shards that are written: TFRecord, WebDataset (tar, tar.gz), Parquet, or a "
        "folder of files; default: the input's, and of pack, and without an input, tfrecord",
    )
    add_no_auth(group)
    group.add_argument(
        "--max_failed_fraction",
        type=fraction,
        default=0.01,
        metavar="F",
        help="of a shard's images that may fail (in a small shard: one), default 0.01; with more "
        "the run is finished all the same, and the exit code is 1",
    )
    group = command.add_argument_group("decoding")
    group.add_argument(
        "--max_pixels",
        type=positive,
        default=100_000_000,
        help="larger pictures fail before anything is allocated, default 100,000,000",
    )
    group = command.add_argument_group("work")
    group.add_argument(
        "--threads",
        type=positive,
        default=None,
        help="that decode and encode, default one a core; changes no result",
    )
    add_verbose(group)
    launch_flags.add_flags(command)


def add_input_format(group: Any) -> None:
    group.add_argument(
        "--input_format",
        choices=("auto", *INPUT_FORMATS),
        default="auto",
        help="of the input's shards, whatever their names; folder: image files; default: by the "
        "names",
    )


def add_no_auth(group: Any) -> None:
    group.add_argument(
        "--no_auth", action="store_true", help="gs:// without credentials, for public buckets"
    )


def add_verbose(group: Any) -> None:
    group.add_argument(
        "--verbose", action="store_true", help="show what Beam and TensorFlow say, and tracebacks"
    )


def add_model_flags(command: argparse.ArgumentParser, required: bool = True) -> None:
    group = command.add_argument_group(
        "model", "What the SavedModel's signature does not say. `pixelmill inspect` tells which."
    )
    group.add_argument("--model", required=required, metavar="DIR", help="folder of the SavedModel")
    group.add_argument("--model_card", metavar="YAML", help="all of the below in a file")
    group.add_argument("--signature", help="default: serving_default, or the only one")
    group.add_argument("--tags", type=words, metavar="A,B", help="of the graph to load")
    group.add_argument("--input_name", help="input that takes the image")
    group.add_argument(
        "--input_role",
        choices=("image", "bytes", "example"),
        help="pixels, encoded images or tf.Examples; default: by dtype and name",
    )
    group.add_argument(
        "--value_range",
        type=number_pair,
        metavar="LOW,HIGH",
        help="what 0 and 255 become: 0,1 or -1,1 or 0,255",
    )
    group.add_argument("--mean", type=numbers, metavar="R,G,B", help="subtracted after that")
    group.add_argument("--std", type=numbers, metavar="R,G,B", help="divided by after that")
    group.add_argument(
        "--channels",
        choices=("RGB", "BGR", "L", "Y", "ids", "one_hot"),
        help="default RGB; ids and one_hot are of models that make pictures of masks",
    )
    group.add_argument("--input_layout", choices=("NHWC", "NCHW"), help="default: by the shape")
    group.add_argument(
        "--image_size",
        type=size,
        metavar="HxW",
        help="bring pictures to this size, for a model that takes any",
    )
    group.add_argument(
        "--fit",
        choices=("stretch", "letterbox", "pad", "crop"),
        help="how they get to a size: stretched (default); scaled to fit, with bars on both "
        "sides; put at the top left, only scaled if larger; or the middle is cut out, and the "
        "rest of the mask is the ignore id",
    )
    group.add_argument(
        "--max_side",
        type=positive,
        metavar="PX",
        help="scale larger pictures down to this longest side, for a model that takes any size",
    )
    group.add_argument(
        "--multiple_of",
        type=positive,
        metavar="PX",
        help="for a model whose sides must be multiples of this: mirror pictures at the edges",
    )
    group.add_argument("--output_name", help="output with the scores or class ids")
    group.add_argument(
        "--output_kind",
        choices=("logits", "softmax", "sigmoid", "class_ids"),
        help="default: found by running the model once",
    )
    group.add_argument("--output_layout", choices=("NHWC", "NCHW"), help="default: found likewise")
    group.add_argument(
        "--threshold",
        type=fraction,
        help="for one probability a pixel: above it the pixel is class 1, default 0.5",
    )
    group.add_argument(
        "--output_range",
        type=number_pair,
        metavar="LOW,HIGH",
        help="of pictures that the model makes: what black and white are, -1,1 or 0,1 or 0,255",
    )
    group.add_argument("--classes", type=words, metavar="A,B,...", help="names by class id")
    group.add_argument(
        "--set",
        type=field_value,
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="any field of the card: inputs.truncation.value=0.5, output.void_id=255",
    )


def add_generate_flags(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("generating")
    group.add_argument("--count", type=positive, metavar="N", help="pictures to make")
    group.add_argument(
        "--per_class",
        metavar="N|FILE",
        help="pictures of every class: a number, or a YAML or CSV file of class: count",
    )
    group.add_argument("--seed", type=whole, default=0, help="of all random numbers, default 0")
    group.add_argument(
        "--images_per_shard",
        type=positive,
        default=256,
        help="made and committed together, default 256",
    )
    add_codec_flags(group, "png", "default png")
    add_batch_flags(group)


def add_codec_flags(group: Any, default: str | None, usual: str) -> None:
    group.add_argument(
        "--image_format",
        choices=("png", "jpeg", "webp", "avif"),
        default=default,
        help=f"of pictures that are written, {usual}; masks are always PNGs, for class ids do not "
        "survive a lossy codec",
    )
    group.add_argument("--quality", type=percent, help="of all but PNG, 1 to 100, default 95")


def add_segment_flags(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("segmenting")
    group.add_argument(
        "--retry_failed",
        nargs="?",
        type=reasons,
        const=reasons("all"),
        metavar="REASON,...",
        help="process again what has failed in committed shards, of all reasons or of some "
        "(model_error,timeout), and merge it in",
    )
    add_files_per_shard(group)
    group.add_argument(
        "--confidence_map",
        action="store_true",
        help="also write a grey picture of the probability of the chosen class",
    )
    group.add_argument(
        "--mask_size",
        choices=("image", "model"),
        default="image",
        help="masks as large as the picture, or as the model saw it (faster); default image",
    )
    add_batch_flags(group)


def add_files_per_shard(group: Any) -> None:
    group.add_argument(
        "--files_per_shard",
        type=positive,
        default=256,
        help="image files that are processed and committed together, default 256",
    )


def add_batch_flags(group: Any) -> None:
    """Of all jobs that run a model."""
    group.add_argument(
        "--alpha",
        choices=("drop", "white", "black"),
        default="drop",
        help="transparency: drop it, or lay the picture on a colour; default drop",
    )
    group.add_argument(
        "--batch_size",
        type=positive_or_auto,
        default=8,
        metavar="N|auto",
        help="pictures that the model gets at once, default 8; auto measures it at the start, and "
        "a resumed run keeps it; a model of fixed batch decides",
    )
    group.add_argument(
        "--batch_timeout_s",
        type=seconds,
        default=600.0,
        metavar="S",
        help="a batch that the model does not answer in this time fails, default 600; 0: never",
    )
    add_feature_flags(group)


def add_feature_flags(group: Any) -> None:
    """Of all jobs that read tf.Examples; `Parser` fills in what is not given."""
    group.add_argument(
        "--schema",
        choices=tuple(SCHEMAS),
        help="whose names the features of tf.Examples have, default deeplab: object_detection is "
        "by image/source_id, tfds has image, file_name, label and segmentation_mask",
    )
    group.add_argument("--image_feature", help="default by --schema: image/encoded")
    group.add_argument("--key_feature", help="default by --schema: image/filename")


def fill_features(flags: argparse.Namespace) -> argparse.Namespace:
    """Fills in the names of features that no flag gives, by the schema."""
    names = SCHEMAS[flags.schema or "deeplab"]
    fields = names._asdict()
    if flags.command == "evaluate":  # its labels are masks
        fields["label"] = names.mask
    elif flags.command in ("train", "study"):  # which refuse what has no effect on a kind
        fields.pop("label" if flags.kind == "segmenter" else "mask")
    for name, feature in fields.items():
        if getattr(flags, f"{name}_feature", feature) is None:
            setattr(flags, f"{name}_feature", feature)
    return flags


def add_device_flags(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("accelerators", "Where they have no effect, this is said.")
    group.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="compute in less where that is safe: bfloat16 on CPUs, float16 on GPUs",
    )
    group.add_argument(
        "--device_memory_mb",
        type=positive,
        metavar="MB",
        help="of each GPU for one process; default: grows as needed",
    )
    group.add_argument(
        "--xla", action="store_true", help="compile the model, for pictures of one size"
    )

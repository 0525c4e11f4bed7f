"""Flags of `pixelmill pack`."""

import argparse

from pipeline.flag_values import fraction, positive, whole, words
from pipeline.flags import add_codec_flags, add_feature_flags

LABELS = (
    "beside",
    "none",
    "voc",
    "voc_boxes",
    "cityscapes",
    "cityscapes_train",
    "coco",
    "coco_instances",
    "folders",
)

DESCRIPTION = """\
Pictures, with masks or labels, into shards: from files, or from shards of another format.

  pixelmill pack --input dataset/ --output shards/
  pixelmill pack --input 'train-*.tar' --output_format parquet --output parquet/
  pixelmill pack --input coco/train2017 --labels coco --annotations instances.json --output shards/
  pixelmill pack --input 'old-*' --images_per_shard 5000 --shuffle 7 --output shards/

A file is the mask of an image when it has its name with _mask before the extension
(a.jpg, a_mask.png), or its path with the folder images replaced by masks
(images/a.jpg, masks/a.png); --labels names other layouts. Every image is decoded once; broken
ones are listed, not packed. Metadata such as the place in EXIF is taken away, unless --metadata
says otherwise. Without --images_per_shard, --shard_mb and --shuffle, every shard that is read
becomes one that is written."""


def add_flags(command: argparse.ArgumentParser) -> None:
    """Adds the flags that are of pack alone."""
    group = command.add_argument_group("masks and labels")
    group.add_argument(
        "--labels",
        choices=LABELS,
        default="beside",
        help="where masks or labels of files are: beside the images (default); voc: JPEGImages and "
        "SegmentationClass; voc_boxes: boxes in Annotations; cityscapes: leftImg8bit and gtFine "
        "with labelIds (or, cityscapes_train, labelTrainIds); coco: in --annotations "
        "(coco_instances: category * 256 + number); folders: the folder of an image names its "
        "class",
    )
    group.add_argument("--annotations", metavar="JSON", help="of COCO, polygons and RLE")
    group.add_argument(
        "--image_set",
        metavar="NAME",
        help="of voc: ImageSets/Segmentation/NAME.txt, of voc_boxes ImageSets/Main/NAME.txt",
    )
    group.add_argument(
        "--classes",
        type=words,
        metavar="A,B,...",
        help="of --labels folders and voc_boxes, in the order of their ids; default: sorted, and "
        "VOC's",
    )
    group = command.add_argument_group("what is written")
    group.add_argument(
        "--metadata",
        choices=("strip", "keep", "refuse"),
        default="strip",
        help="EXIF (with the place), ICC, XMP, comments: taken away without touching the pixels, "
        "orientation stays (default); kept; or an image that has any fails",
    )
    add_codec_flags(group, None, "default: as they are")
    group = command.add_argument_group("which records, and where")
    group.add_argument(
        "--images_per_shard",
        type=positive,
        help="at most; default 1024 of files, and shards as they are read",
    )
    group.add_argument("--shard_mb", type=positive, metavar="MB", help="at most, in 10^6 bytes")
    group.add_argument(
        "--shuffle", type=whole, metavar="SEED", help="the order depends on seed and names alone"
    )
    group.add_argument(
        "--records",
        metavar="WHAT",
        help="only records that are named here: a run, its records/, or a text file of names",
    )
    group.add_argument(
        "--where",
        metavar="CONDITION",
        help="of --records: 'width >= 64 and reason != truncated'; default 'status = ok'",
    )
    group.add_argument(
        "--validation_fraction",
        type=fraction,
        metavar="F",
        help="two sets of shards, train/ and validation/, by a hash of the names, as in train",
    )
    group.add_argument(
        "--split_by",
        metavar="REGEX",
        help="records whose names have this part in common stay together: '^[^_]+'",
    )
    add_feature_flags(group)
    group.add_argument("--label_feature", help="default by --schema: image/class/label")
    group.add_argument(
        "--mask_feature", help="default by --schema: image/segmentation/class/encoded"
    )

"""Flags of `pixelmill report` and `pixelmill export`."""

import argparse

REPORT = """\
The page of a run, made anew, or of a run compared with another one.

  pixelmill report out/
  pixelmill report out/ last_week/ --output comparison.html

Every run ends with its page, OUT/report.html. With a second run it is shown what moved from that to
this one: totals, class shares, drift, and the images whose masks differ most. The page is one file
that needs no network. A run that is under way is shown as far as it is."""

EXPORT = """\
Images and masks of a run, in the form that another tool opens.

  pixelmill export --format coco_panoptic run/ coco/

RUN is of segment, or of pack with masks. OUT is a new folder; nothing is ever replaced.
hf_imagefolder: Hugging Face datasets, metadata.jsonl with mask_file_name. coco_panoptic and
coco_rle: COCO's JSON, a segment for each class in an image. cvat: "Segmentation mask 1.1".
croissant: as hf_imagefolder, with Croissant metadata."""


def add_report(report: argparse.ArgumentParser) -> None:
    """Of `report`."""
    report.add_argument("run", metavar="RUN", help="folder of the run")
    report.add_argument("other", metavar="RUN2", nargs="?", help="what it is compared with")
    report.add_argument(
        "--output", metavar="FILE", help="default RUN/report.html, or RUN/comparison.html"
    )


def add_export(export: argparse.ArgumentParser) -> None:
    """Of `export`."""
    export.add_argument(
        "--format",
        required=True,
        choices=("hf_imagefolder", "coco_panoptic", "coco_rle", "cvat", "croissant"),
    )
    export.add_argument("run", metavar="RUN", help="folder of the run")
    export.add_argument("output", metavar="OUT", help="new folder for the export")

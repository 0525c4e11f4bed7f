"""Finished runs of any size whose files were made up: a report reads them like real ones."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline import legends, run_files
from transforms import storage
from transforms.commits import commit_path
from transforms.inputs import ImageFile, Plan, Shard
from transforms.png import encode_png
from transforms.shard_report import ShardReport, Totals
from transforms.sink import records_path

HOSTILE = "<script>window.hurt=1</script><img src=x onerror=window.hurt=1>\"'&{{7*7}}\u202e"
CLASSES = ["ground", HOSTILE, "a very long name of a class " * 5, "never"]
COLORS = ["#000000", "#d0342c", "#2c7bd0", "#ffffff"]
_HEIGHT, _WIDTH = 48, 64
_DIFFERENT = 6  # pictures that really exist
_PER_SHARD = 1000


def make_run(
    root: Path, images: int, seed: int = 0, shift: int = 0, pictures: Path | None = None
) -> Path:
    """A segmentation of so many images; every hundredth failed. Returns OUT.

    Args:
        shift: moves class shares, so that runs of one seed can differ.
        pictures: folder of the input, for runs that share it; made if it is not there.
    """
    source, out = pictures or root / "in", root / "out"
    _pictures(source, seed)
    names = [f"{i}.png" for i in range(_DIFFERENT)]
    shards = []
    count = -(-images // _PER_SHARD)
    for number in range(count):
        size = min(_PER_SHARD, images - number * _PER_SHARD)
        files = tuple(
            ImageFile(names[i % _DIFFERENT], str(i % _DIFFERENT), 100) for i in range(size)
        )
        shards.append(Shard(f"s-{number:05d}-of-{count:05d}", str(source), 100 * size, files))
    plan = Plan(tuple(shards), "images")
    run = run_files.Run(
        "segment",
        {
            "input": {"kind": "images", "files": images, "shards": count, "bytes": 100 * images},
            "model": {"fingerprint": "0123456789abcdef", "shift": shift},
            "decode": {"max_pixels": 10**6, "alpha": "drop", "draft_px": None},
        },
        {"input": HOSTILE, "model": f"/models/{HOSTILE}"},
    )
    run_files.begin(str(out), run, plan, overwrite=False)
    legends.write_legend(str(out), CLASSES, COLORS)
    (out / "masks").mkdir(exist_ok=True)
    for i in range(_DIFFERENT):
        mask = np.zeros((_HEIGHT, _WIDTH), np.uint8)
        mask[:, 6 * i + shift :] = 1 + i % 2
        (out / "masks" / f"{i}.png").write_bytes(encode_png(mask))
    totals = Totals()
    for number, shard in enumerate(shards):
        rng = np.random.default_rng([seed, shift, number])
        report = dataclasses.replace(_shard(out, shard, number, rng, shift), run=run.digest)
        storage.write(str(out), commit_path(shard.name), report.to_json())
        totals = totals.merge(Totals.of(report, max_failed_fraction=0.05))
    run_files.finish(totals, str(out), 0.05)
    return out


def _pictures(source: Path, seed: int) -> None:
    source.mkdir(parents=True, exist_ok=True)
    for i in range(_DIFFERENT):
        small = np.random.default_rng([seed, i]).integers(0, 256, (4, 5, 3), np.uint8)
        picture = Image.fromarray(small).resize((_WIDTH, _HEIGHT), Image.Resampling.BICUBIC)
        picture.save(source / f"{i}.png")


def _shard(
    out: Path, shard: Shard, number: int, rng: np.random.Generator, shift: int
) -> ShardReport:
    n = len(shard.files)
    failed = np.arange(n) % 100 == 7
    confidence = np.clip(rng.normal(0.85, 0.1, n), 0, 1)
    keys = [f"{number:03d}/{i:04d} {HOSTILE if i % 50 == 0 else 'photo'}.png" for i in range(n)]
    pixels = _HEIGHT * _WIDTH
    second = rng.integers(300, 500, n) + 40 * shift
    ok = int(n - failed.sum())
    pq.write_table(
        pa.table(
            {
                "index": np.arange(n),
                "key": keys,
                "status": np.where(failed, "failed", "ok"),
                "classes": pa.array([[0, 1]] * n, pa.list_(pa.int32())),
                "class_pixels": pa.array(
                    np.stack([pixels - second, second], axis=1).tolist(), pa.list_(pa.int64())
                ),
            }
        ),
        _folder(out / records_path(shard.name)),
    )
    good = [int(i) for i in np.flatnonzero(~failed)]
    entries: list[list[Any]] = [
        [shard.name, i, keys[i], round(float(confidence[i]), 6)] for i in good
    ]
    ranks = rng.permutation(len(entries))
    return ShardReport(
        shard.name,
        read=n,
        written=ok,
        failed_by_reason={"truncated": int(failed.sum())} if failed.any() else {},
        bytes_in=30_000 * n,
        bytes_out=900 * n,
        sums={
            "pixels": pixels * ok,
            "class_pixels": [int((pixels - second[good]).sum()), int(second[good].sum()), 0, 0],
            "class_images": [ok, ok, 0, 0],
            "ignored_pixels": 0,
            "one_class_images": 0,
            **{
                name: np.histogram(values, 256, (0, 1))[0].tolist()
                for name, values in (
                    ("confidence", confidence),
                    ("entropy", 1 - confidence),
                    ("brightness", rng.normal(0.5, 0.1, n)),
                )
            },
            "widths": {str(w): int(k) for w, k in zip(*_counts(rng, n), strict=True)},
            "heights": {str(_HEIGHT): ok},
            "formats": {"PNG": ok},
        },
        highlights={
            "sample": sorted(
                [f"{ranks[i]:012x}", *entry] for i, entry in enumerate(entries) if ranks[i] < 24
            ),
            "unsure": sorted([entry[-1], *entry] for entry in entries)[:24],
            "failures": {
                "truncated": [
                    [shard.name, int(i), keys[i], "decode", f"the file ends early: {HOSTILE}"]
                    for i in np.flatnonzero(failed)[:5]
                ]
            },
        },
        clock={
            "started": 1e9 + number,
            "committed": 1e9 + number + 1,
            "microseconds": {"read": 40_000, "decode": 300_000, "model": 700_000, "write": 9_000},
        },
    )


def _counts(rng: np.random.Generator, n: int) -> tuple[Any, Any]:
    return np.unique(rng.choice([320, 500, 512, 640, 1024], n), return_counts=True)


def _folder(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def make_training(root: Path) -> Path:
    """A finished training of a segmenter. Returns OUT."""
    out = root / "training"
    out.mkdir(parents=True)
    names = ["ground", HOSTILE, "sky"]
    run = {
        "format": 1,
        "pixelmill": "0",
        "job": "train segmenter",
        "identity": {"network": {"kind": "unet"}, "settings": {"epochs": 4}},
        "notes": {"input": HOSTILE, "licence": ""},
        "versions": {"python": "3"},
        "clock": {"created": 1e9},
    }
    metrics = {
        "format": 1,
        "job": "train segmenter",
        "epochs": 4,
        "best_epoch": 3,
        "examples": {"train": 80, "validation": 20},
        "accuracy": 0.9,
        "mean_iou": 0.7,
        "classes": [
            {"id": i, "name": name, "iou": [0.9, None, 0.5][i], "f1": 0.8, "count": 1000}
            for i, name in enumerate(names)
        ],
        "confusion": [[900, 50, 50], [0, 0, 0], [100, 0, 300]],
        "left_out": [],
    }
    (out / run_files.RUN).write_text(json.dumps(run))
    (out / run_files.METRICS).write_text(json.dumps(metrics))
    rows = [f"{e},{1 / e},{0.3 * e if e % 2 else ''}" for e in range(1, 5)]
    (out / "curves.csv").write_text("\n".join(["epoch,loss,mean_iou", *rows]))
    return out

"""Small shards with masks, and runs of augmentations of them."""

import argparse
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from pipeline.augment_run import augment, plan_source
from transforms.augmentation.recipe import Recipe, parse_recipe
from transforms.formats.tfrecord import read_records, write_record

Row = dict[str, Any]


def picture(seed: int, size_hw: tuple[int, int] = (44, 52)) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    resampling = Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(coarse).resize((size_hw[1], size_hw[0]), resampling))


def ids(seed: int, size_hw: tuple[int, int] = (44, 52)) -> np.ndarray:
    mask = np.zeros(size_hw, np.uint8)
    mask[5:20, 10 + seed % 9 : 30] = 1
    mask[25:40, 5:25] = 2 + seed % 2
    return mask


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def row(number: int, masked: bool = True, **more: Any) -> Row:
    made: Row = {"image/filename": f"{number}.png", "image/encoded": png(picture(number))}
    if masked:
        made["image/segmentation/class/encoded"] = png(ids(number))
    return made | more


def write_shards(folder: Path, shards: Sequence[Sequence[Row]]) -> str:
    """Rows as TFRecord shards; returns their glob."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, rows in enumerate(shards):
        path = folder / f"in-{number:05d}-of-{len(shards):05d}.tfrecord"
        with path.open("wb") as file:
            for fields in rows:
                example = tf.train.Example()
                for name, value in fields.items():
                    feature = example.features.feature[name]
                    if isinstance(value, int):
                        feature.int64_list.value.append(value)
                    else:
                        data = value.encode() if isinstance(value, str) else value
                        feature.bytes_list.value.append(data)
                write_record(file, example.SerializeToString(deterministic=True))
    return f"{folder}/in-*.tfrecord"


def recipe(source: str, **fields: Any) -> Recipe:
    return parse_recipe({"source": source, "publish": "unused", "seed": 5, **fields})


def run(made: Recipe, out: str | Path, **flags: Any) -> int:
    allowed = {"max_failed_fraction": 0.5, **flags}
    return augment(made, plan_source(made.source), str(out), argparse.Namespace(**allowed))


def examples(out: str | Path) -> dict[str, Any]:
    """Features of all examples of a run, by key."""
    found = {}
    for shard in sorted(Path(out).glob("images/*.tfrecord")):
        with shard.open("rb") as file:
            for data in read_records(file):
                assert isinstance(data, bytes)
                features = tf.train.Example.FromString(data).features.feature
                found[text(features, "image/filename")] = features
    return found


def text(features: Any, name: str) -> str:
    value: bytes = features[name].bytes_list.value[0]
    return value.decode()


def pixels_of(features: Any, name: str = "image/encoded") -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(features[name].bytes_list.value[0])))


def left_out(out: str | Path) -> dict[str, str]:
    """{key: reason}."""
    lines = [x for p in Path(out).glob("left_out/*.jsonl") for x in p.read_text().splitlines()]
    return {each["key"]: each["reason"] for each in map(json.loads, lines)}

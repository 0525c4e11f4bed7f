"""How near `pixelmill evaluate` comes to the limit of reading and decoding both sides.

    python docs/evaluate_speed.py [PAIRS]

Makes masks of 19 classes at 1024x2048 and, eight times as many, at 360x480, as files and as
TFRecord shards, and compares the wall time of evaluating them with that of reading and decoding
alone, in as many threads. The best of five rounds is taken, for a busy machine only ever makes it
slower. Prints a Markdown table. Masks of 360x480 have some 20 runs of one class a row, as CamVid's
labels have.
"""

import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from pathlib import Path

import numpy as np
from scipy import ndimage

from models.loading import import_tensorflow
from transforms import storage
from transforms.evaluate import EvaluateOperator
from transforms.evaluation.encodings import Coding, decode_values
from transforms.evaluation.scoring import COLUMNS, Scoring
from transforms.feature_names import FeatureNames
from transforms.formats.tfrecord import write_record
from transforms.inputs import plan_input
from transforms.partners import MaskSet, with_confidence
from transforms.png import encode_png
from transforms.shard_work import process_shard
from transforms.sink import Sink
from transforms.sources import read_shard

CLASSES, SCENES = 19, 40
NAMES = FeatureNames("image/segmentation/class/encoded")


def scene(seed, shape):
    """Blobs of classes, as masks of streets have them: some thousand edges, little noise."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(CLASSES, shape[0] // 16, shape[1] // 16))
    small = ndimage.gaussian_filter(noise, (0, 3, 3)).argmax(axis=0)
    rows, columns = (np.arange(n) * s // n for n, s in zip(shape, small.shape, strict=True))
    mask = small[rows[:, None], columns].astype(np.uint8)
    dots = shape[0] * shape[1] // 20_000
    for y, x in zip(*(rng.integers(0, n - 16, dots) for n in shape), strict=True):
        mask[y : y + 16, x : x + 16] = rng.integers(0, CLASSES)
    return mask


def write_side(folder, pairs, shape, shift, as_files):
    tf = import_tensorflow()
    folder.mkdir(parents=True)
    record = (folder / "masks-00000-of-00001.tfrecord").open("wb") if not as_files else None
    scenes = [encode_png(np.roll(scene(seed, shape), shift, axis=1)) for seed in range(SCENES)]
    for number in range(pairs):
        data = scenes[number % SCENES]
        if record is None:
            (folder / f"{number:05d}.png").write_bytes(data)
            continue
        example = tf.train.Example()
        example.features.feature[NAMES.image].bytes_list.value.append(data)
        example.features.feature[NAMES.key].bytes_list.value.append(f"{number:05d}".encode())
        write_record(record, example.SerializeToString())
    if record is not None:
        record.close()


def limit_s(plans, threads):
    """Seconds to read and decode all masks of both sides, and to do nothing with them."""

    def load(item):
        found = with_confidence(*item, "")
        return decode_values(found.mask(), "ids", "").size

    begin = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for plan in plans:
            for shard in plan.shards:
                sum(pool.map(load, list(read_shard(shard, NAMES))))
    return time.perf_counter() - begin


def evaluate_s(plans, scoring, threads, root):
    """Seconds to evaluate them, records, rows and commit included."""
    predictions, labels = plans
    storage.write(root, "partners.jsonl", predictions.to_lines().encode())
    both = MaskSet(f"{root}/partners.jsonl", NAMES, by_shard=predictions.kind == "tfrecord")
    sink = Sink(root, "masks", format="folder", columns=COLUMNS)
    begin = time.perf_counter()
    work = EvaluateOperator(sink, scoring, NAMES, predictions=both, threads=threads).open()
    for shard in labels.shards:
        report = process_shard(shard, lambda: work, sink)
        assert report.error is None and report.failed == 0, report
    return time.perf_counter() - begin


def main(pairs):
    threads = cpu_count() or 1
    plain = Scoring(Coding(CLASSES, ignore_ids=(255,)), Coding(CLASSES, ignore_ids=(255,)))
    kinds = {
        "pixels": plain,
        "and boundaries": Scoring(plain.predictions, plain.labels, boundary_width=0.02),
    }
    print("| masks | metrics | limit, pairs/s | evaluate, pairs/s | ratio |")
    print("|---|---|---|---|---|")
    for shape, count in (((1024, 2048), pairs), ((360, 480), 8 * pairs)):
        for as_files in (True, False):
            with tempfile.TemporaryDirectory() as folder:
                root = Path(folder)
                for name, shift in (("predictions", 3), ("labels", 0)):
                    write_side(root / name, count, shape, shift, as_files)
                plans = [plan_input(str(root / name), 10**6) for name in ("predictions", "labels")]
                for name, scoring in kinds.items():
                    rounds = [
                        (
                            limit_s(plans, threads),
                            evaluate_s(plans, scoring, threads, f"{folder}/{name}{n}"),
                        )
                        for n in range(3 if scoring.boundary_width else 5)
                    ]
                    limit, took = (min(side) for side in zip(*rounds, strict=True))
                    kind = f"{count} {'files' if as_files else 'in a shard'}, {shape[1]}x{shape[0]}"
                    print(
                        f"| {kind} | {name} | {count / limit:.0f} | {count / took:.0f} "
                        f"| {limit / took:.2f} |"
                    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)

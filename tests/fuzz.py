"""Mutated inputs for the readers of shards and pictures, in a process of limited memory and time.

    PYTHONPATH=. python tests/fuzz.py FIRST COUNT PROGRESS     the cases FIRST, FIRST + 1, ...

A case is a number and nothing else: it says which file is mutated, and how, for the same files. The
process writes the number of the case under way to PROGRESS, so that the case that killed it is
known, and prints a JSON summary at the end. A case alone: COUNT 1.
"""

import contextlib
import gzip
import io
import json
import os
import random
import resource
import signal
import sys
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from transforms.decode import DecodePolicy, decode
from transforms.failures import REASONS, Failure
from transforms.formats.tfrecord import write_record
from transforms.inputs import Shard
from transforms.masks import decode_mask
from transforms.sources import read_shard, tf

MEMORY_BYTES = 1 << 30  # that a case may take, above what the process has after its imports
CASE_S = 20  # a case that takes longer hangs
LARGEST_FILE_BYTES = 150_000
POLICY = DecodePolicy(max_pixels=4_000_000)

_WORDS = (b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\0\0\0\x80", b"\xff\xff")


def made_pictures() -> list[bytes]:
    """A small picture in every format that Pillow writes, and in some variants."""
    rng = np.random.default_rng(7)
    small = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    image = small.resize((31, 23), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    variants = [
        ("PNG", image, {"exif": exif}),
        ("PNG", image.convert("P"), {"transparency": 3}),
        ("PNG", Image.fromarray(rng.integers(0, 65536, (9, 7), dtype=np.uint16)), {}),
        ("PNG", image, {"save_all": True, "append_images": [image.rotate(90)]}),
        ("JPEG", image, {"exif": exif}),
        ("JPEG", image, {"progressive": True}),
        ("JPEG", image.convert("CMYK"), {}),
        ("GIF", image, {"save_all": True, "append_images": [image.rotate(90)]}),
        *(("TIFF", image, {"compression": c}) for c in (None, "tiff_lzw", "jpeg", "packbits")),
        ("TIFF", image, {"exif": exif, "tiffinfo": {270: "x" * 99}}),
        *((name, image, {}) for name in ("WEBP", "BMP", "PPM", "TGA", "PCX", "ICO", "JPEG2000")),
        *((name, image, {}) for name in ("SGI", "DDS", "QOI", "AVIF", "ICNS", "IM", "MPO")),
    ]
    found = []
    for name, picture, settings in variants:
        file = io.BytesIO()
        with contextlib.suppress(KeyError, OSError, ValueError):  # this Pillow cannot write it
            picture.save(file, name, **settings)
            found.append(file.getvalue())
    return found


def real_pictures() -> list[bytes]:
    """Small pictures below the folder that PIXELMILL_REAL_DATA names; none without it."""
    root = os.environ.get("PIXELMILL_REAL_DATA")
    if not root:
        return []
    folders = ("awkward_images", "pngsuite", "exif_orientation", "coral_bmp_pairs", "camvid_val")
    paths = [p for name in folders for p in sorted(Path(root, name).rglob("*")) if p.is_file()]
    return [p.read_bytes() for p in paths if 0 < p.stat().st_size <= LARGEST_FILE_BYTES]


def made_masks() -> list[bytes]:
    """A mask of 23x31 in every form that is read."""
    ids = Image.fromarray(np.arange(23 * 31, dtype=np.uint8).reshape(23, 31) % 5)
    coloured = ids.copy()
    coloured.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 0])
    deep = Image.fromarray(np.asarray(ids, np.uint16) * 300)
    found = []
    for mask, name in ((ids, "PNG"), (coloured, "PNG"), (deep, "PNG"), (ids, "BMP"), (ids, "TIFF")):
        file = io.BytesIO()
        mask.save(file, name)
        found.append(file.getvalue())
    return found


def shard_of(pictures: list[bytes]) -> list[bytes]:
    """tf.Examples of pictures."""
    examples = []
    for number, data in enumerate(pictures):
        example = tf.train.Example()
        features = example.features.feature
        features["image/encoded"].bytes_list.value.append(data)
        features["image/filename"].bytes_list.value.append(b"picture %d" % number)
        features["image/class/label"].int64_list.value.append(number)
        examples.append(example.SerializeToString(deterministic=True))
    return examples


def mutate(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """Some flips, numbers, cuts, insertions, repetitions, or parts of another file."""
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        # beginnings hold what matters most
        limit = len(damaged) if rng.random() < 0.5 else min(len(damaged), 128)
        at = rng.randrange(limit or 1)
        match rng.randrange(8):
            case 0 | 1:
                damaged[at : at + 1] = bytes([rng.randrange(256)])
            case 2:
                damaged[at : at + 1] = bytes(
                    [(damaged[at] if damaged else 0) ^ 1 << rng.randrange(8)]
                )
            case 3:
                word = rng.choice(_WORDS)
                damaged[at : at + len(word)] = word
            case 4:
                del damaged[at : at + rng.randrange(1, 40)]
            case 5:
                damaged[at:at] = rng.randbytes(rng.randrange(1, 16))
            case 6:
                source = rng.choice(others)
                start = rng.randrange(len(source))
                damaged[at:at] = source[start : start + rng.randrange(1, 200)]
            case 7:
                del damaged[at if rng.random() < 0.3 else rng.randrange(len(damaged) or 1) :]
    return bytes(damaged)


def check_picture(data: bytes) -> str:
    """What becomes of a file that claims to be a picture; AssertionError if it is no answer."""
    try:
        picture = decode(data, POLICY)
    except Failure as failure:
        assert failure.stage == "decode" and failure.reason in REASONS, failure
        assert 0 < len(failure.message) < 1000
        return failure.reason
    height, width = picture.facts.size_hw
    assert picture.pixels.shape == (height, width, 3) and picture.pixels.dtype == np.uint8
    assert 0 < height * width <= POLICY.max_pixels
    return "ok"


def check_mask(data: bytes) -> str:
    """The same for one that claims to be a mask."""
    try:
        mask = decode_mask(data, (23, 31), "mask.png")
    except Failure as failure:
        assert failure.reason in REASONS, failure
        return failure.reason
    assert mask.shape == (23, 31)
    return "ok"


def check_shard(path: str, data: bytes, originals: list[bytes], exact: bool) -> str:
    """Reads a shard file: every record in its place, or a failure; no loss that is not told.

    Args:
        originals: the pictures that were in it.
        exact: no record was added, moved or cut off at its very end: loss can be told.
    """
    Path(path).write_bytes(data)
    seen, told, keys = 0, Counter[str](), set()
    for index, (record, load) in enumerate(read_shard(Shard("s", path, len(data)))):
        assert record.index == index and record.key not in keys, record
        keys.add(record.key)
        seen += 1
        if isinstance(load, Failure):
            assert load.reason in REASONS
            told[load.reason] += 1
        elif exact:
            assert load() == originals[index], f"record {index} is another one"
    if exact and seen < len(originals):
        assert told["rest_lost"], f"{len(originals) - seen} records are lost without a word"
    return ",".join(sorted(told)) or "ok"


class Cases:
    """All cases: a number in, what was tried and what became of it out."""

    def __init__(self, folder: str) -> None:
        self._path = os.path.join(folder, "s.tfrecord")
        self._pictures = [*made_pictures(), *real_pictures()]
        self._masks = made_masks()
        self._small = [data for data in self._pictures if len(data) < 3000][:12]
        framed = io.BytesIO()
        for example in shard_of(self._small):
            write_record(framed, example)
        self._shards = [framed.getvalue(), gzip.compress(framed.getvalue(), mtime=0)]

    def __call__(self, number: int) -> str:
        """Raises AssertionError when a case has no answer that is one."""
        rng = random.Random(f"pixelmill {number}")
        if number % 4 == 3:
            return f"shard {self._shard(rng)}"
        if number % 4 == 2 and rng.random() < 0.5:  # the other half are pictures, no masks
            return f"mask {check_mask(mutate(rng, rng.choice(self._masks), self._pictures))}"
        data = mutate(rng, rng.choice(self._pictures), self._pictures)
        return f"mask {check_mask(data)}" if number % 4 == 2 else f"picture {check_picture(data)}"

    def _shard(self, rng: random.Random) -> str:
        original = rng.choice(self._shards)
        if rng.random() < 0.4:
            damaged = mutate(rng, original, self._shards[:1])
            return check_shard(self._path, damaged, self._small, exact=False)
        flipped = bytearray(original)
        for _ in range(rng.choice((1, 2, 8))):
            flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
        return check_shard(self._path, bytes(flipped), self._small, exact=True)


def peak_kb() -> int:
    """Peak memory of this program. Not ru_maxrss: that begins with the peak of who started it."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))


def main(first: int, count: int, progress: str) -> None:
    warnings.simplefilter("ignore")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)  # libtiff writes there by itself
    run = Cases(os.path.dirname(progress))
    virtual_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = virtual_bytes + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    before = peak_kb()
    became: Counter[str] = Counter()
    note = os.open(progress, os.O_CREAT | os.O_WRONLY)
    for number in range(first, first + count):
        os.pwrite(note, b"%d\n" % number, 0)
        signal.alarm(CASE_S)  # whose default is to end the process
        became[run(number)] += 1
    signal.alarm(0)
    print(json.dumps({"became": became, "grown_mb": (peak_kb() - before) / 1024}))


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
    except BaseException as error:
        import traceback

        print(
            json.dumps({"error": f"{type(error).__name__}: {error}", "at": traceback.format_exc()})
        )
        sys.exit(1)

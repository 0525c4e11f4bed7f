"""What windows of one large picture cost, against the same windows as pictures of their own.

Both are segmented by one process in turns, from JPEG files to committed masks: the same number of
pixels goes through the model, so that the ratio of times is that of the rates per megapixel,
overlap counted. Time of the processor says more than that of the clock where others work beside.
"""

import json
import statistics
import sys
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.others import Answer
from benchmarks.run import fresh, run

_TILE_PX, _OVERLAP_PX, _SIDE_PX, _BATCH = 512, 64, 1856, 8  # 4 x 4 windows
_BLENDS = ("crop", "gaussian")


class Cost(NamedTuple):
    """Seconds of the clock and of the processor for one pass."""

    wall_s: float
    cpu_s: float


def windows(model: str, name: str, rounds: int, folder: Path) -> list[Answer]:
    """A row for each way to join windows."""
    out = folder / "tiles.json"
    program = [sys.executable, "-m", "benchmarks.tiles", model, str(rounds), str(folder), str(out)]
    run(program, folder / "tiles.log")
    found = json.loads(out.read_bytes())
    megapixels = found["windows"] * _TILE_PX**2 / 1e6
    plain = found["plain"]
    answers = []
    for blend in _BLENDS:
        wall, cpu = (
            statistics.median(a[i] / b[i] for a, b in zip(found[blend], plain, strict=True))
            for i in (0, 1)
        )
        rate = megapixels / statistics.median(cost[0] for cost in found[blend])
        answers.append(
            Answer(
                f"{name} model, {_SIDE_PX}x{_SIDE_PX} by {found['windows']} windows of {_TILE_PX} "
                f"({blend}), against them as pictures: time a megapixel",
                f"{wall:.2f} by the clock, {cpu:.2f} of the processor; {rate:.1f} megapixels/s",
            )
        )
    return answers


def _main(model: str, rounds: str, folder: str, out: str) -> None:
    import numpy as np
    from PIL import Image

    from models.card import load_card
    from models.probe import probe
    from models.rules import bind
    from models.shipped.digit_scenes import scene
    from models.signatures import read_model
    from transforms.inputs import ImageFile, Shard
    from transforms.segment import COLUMNS, SegmentOperator
    from transforms.shard_work import Work, process_shard
    from transforms.sink import Sink
    from transforms.tiling.windows import BLENDS, Tiling

    root = fresh(Path(folder) / "tiles")
    small, _ = scene(7, 1, size_hw=(_SIDE_PX // 4, _SIDE_PX // 4))
    picture = Image.fromarray(np.tile(small, (4, 4, 1)))
    tiling = Tiling((_TILE_PX,) * 2, (_OVERLAP_PX,) * 2, "crop", 8)
    rows, columns = tiling.grid((_SIDE_PX, _SIDE_PX), fixed=False)
    if {rows.window, columns.window} != {_TILE_PX}:
        raise ValueError("windows are not of the size of a tile: nothing can be compared")

    def shard(name: str, pictures: list[Image.Image]) -> Shard:
        files = []
        (root / name).mkdir(parents=True)
        for index, image in enumerate(pictures):
            path = root / name / f"{index:04d}.jpg"
            image.save(path, quality=90)
            files.append(ImageFile(path.name, path.stem, path.stat().st_size))
        return Shard(f"{name}-00000-of-00001", str(root / name), len(files), tuple(files))

    whole = shard("whole", [picture])
    parts = shard(
        "parts",
        [
            picture.crop((x.start, y.start, x.start + _TILE_PX, y.start + _TILE_PX))
            for y in rows.spans
            for x in columns.spans
        ],
    )
    binding = probe(model, bind(read_model(model), load_card(None, {"input.multiple_of": 8})))

    def work(tiling: Tiling | None) -> Work:
        sink = Sink(str(root / "out"), "masks", "folder", COLUMNS)
        return SegmentOperator(model, binding, sink, _BATCH, tiling=tiling).open()

    contenders: dict[str, tuple[Work, Shard]] = {"plain": (work(None), parts)}
    for blend in BLENDS:
        if blend in _BLENDS:
            how = Tiling(tiling.tile_hw, tiling.overlap_hw, blend, tiling.period_px)
            contenders[blend] = work(how), whole

    def once(work: Work, shard: Shard) -> Cost:
        sink = Sink(str(fresh(root / "out")), "masks", "folder", COLUMNS)
        wall, cpu = time.monotonic(), time.process_time()
        report = process_shard(shard, lambda: work, sink)
        cost = Cost(time.monotonic() - wall, time.process_time() - cpu)
        if report.error is not None or report.written != shard.records:
            raise ValueError(f"{shard.name}: {report}")
        return cost

    times: dict[str, list[Cost]] = {name: [] for name in contenders}
    for number in range(int(rounds) + 1):
        for name, contender in contenders.items():
            cost = once(*contender)
            if number:  # the first builds graphs
                times[name].append(cost)
    Path(out).write_text(json.dumps({"windows": len(parts.files), **times}))


if __name__ == "__main__":
    _main(*sys.argv[1:])

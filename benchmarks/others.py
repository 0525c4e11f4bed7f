"""Memory, resume, start-up and packing: one function for each question."""

import statistics
from pathlib import Path
from typing import NamedTuple

from benchmarks.made import make_dataset, make_files
from benchmarks.run import Measured, fresh, pixelmill, run


class Answer(NamedTuple):
    """A row of the table."""

    question: str
    answer: str


def memory(model: str, few: int, many: int, folder: Path) -> Answer:
    """Peak memory for few pictures and for many."""
    peaks = []
    for images in (few, many):
        data = make_dataset(folder / "data", images, max(1, images // 500), 256)
        done = _segment(str(data.folder), model, folder)
        peaks.append(done.peak_bytes / 1e6)
    return Answer(
        f"peak memory of {many:,} pictures against {few:,}",
        f"{peaks[1]:.0f} MB against {peaks[0]:.0f} MB: {peaks[1] / peaks[0]:.2f}",
    )


def resume(model: str, shards: int, folder: Path) -> Answer:
    """Seconds beyond start-up for a run that is done."""
    data = make_dataset(folder / "data", shards, shards, 32)
    one = make_dataset(folder / "data", 1, 1, 32)
    took = {}
    for name, source in (("one", one), ("many", data)):
        _segment(str(source.folder), model, folder)
        took[name] = statistics.median(
            _segment(str(source.folder), model, folder, again=True).wall_s for _ in range(3)
        )
    return Answer(
        f"a finished run of {shards:,} shards is recognised",
        f"in {took['many'] - took['one']:.1f} s beyond the {took['one']:.1f} s of one shard",
    )


def start(folder: Path) -> list[Answer]:
    """Seconds of the command line itself."""
    answers = []
    for words in (["--help"], ["segment", "--help"], ["status", str(folder / "out")]):
        took = [run(pixelmill(*words), folder / "start.log").wall_s for _ in range(5)]
        shown = " ".join(word for word in words if not word.startswith("/"))
        answers.append(Answer(f"pixelmill {shown}", f"{statistics.median(took):.2f} s"))
    return answers


def pack(images: int, folder: Path) -> Answer:
    """Pictures a second of pixelmill pack, which decodes each to see that it is sound."""
    times = []
    for count in (images // 8, images):
        files = make_files(folder / "data", count, 256)
        out = fresh(folder / "packed")
        command = pixelmill("pack", "--input", str(files), "--output", str(out))
        times.append(run(command, folder / "pack.log").wall_s)
    rate = (images - images // 8) / (times[1] - times[0])
    return Answer(f"pixelmill pack of {images:,} JPEG files of 256x256", f"{rate:,.0f} images/s")


def _segment(source: str, model: str, folder: Path, again: bool = False) -> Measured:
    out = folder / "out" if again else fresh(folder / "out")
    command = pixelmill("segment", "--input", source, "--output", str(out), "--model", model)
    return run([*command, "--batch_size=16"], folder / "others.log")

"""How many pictures a model gets at once: said, fixed by the model, or measured."""

import argparse

import numpy as np

from models.batch_search import SIZES, best_batch_size
from models.binding import Binding
from models.generator import Generator, Translator
from models.latents import draw
from models.segmenter import Segmenter
from pipeline import run_files
from transforms.picture_work import batch_size_for

_TYPICAL_HW = (512, 512)  # of a picture for a model of free size


def choose_batch_size(flags: argparse.Namespace, path: str, binding: Binding, out: str) -> int:
    """The batch size of a run. `auto` is measured once: a resumed run uses what it began with."""
    if binding.fixed_batch is not None:
        return binding.fixed_batch
    if flags.batch_size != "auto":
        return int(flags.batch_size)
    stored = None if flags.overwrite else run_files.read_run(out)
    if stored is not None and isinstance(stored.identity.get("batch_size"), int):
        return int(stored.identity["batch_size"])
    size, rates = measure(path, binding)
    tried = ", ".join(f"{n}: {rate:,.1f}" for n, rate in rates.items())
    print(f"batch size: {size}, measured; images/s by batch size {tried}", flush=True)
    return size


def measure(path: str, binding: Binding) -> tuple[int, dict[int, float]]:
    """The best batch size of a model here, and images per second by batch size."""
    if not binding.takes_picture:
        generator = Generator(path, binding)
        label = 0 if binding.labels else None

        def make(size: int) -> None:
            generator.batch_size = size
            generator([draw(binding, 0, item, 0, label) for item in range(size)])

        return best_batch_size(make)
    model = Translator(path, binding) if binding.makes_picture else Segmenter(path, binding)
    size_hw = binding.model_size_hw(binding.size_hw or _TYPICAL_HW)
    picture = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), np.uint8)

    def run(size: int) -> None:
        model.batch_size = size
        model([picture] * size)

    largest = batch_size_for(size_hw, SIZES[-1])
    return best_batch_size(run, [size for size in SIZES if size <= largest])

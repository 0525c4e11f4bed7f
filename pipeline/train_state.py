"""How far a training is, as its checkpoint says; read without Keras, for `pixelmill status`."""

import dataclasses
import io
import json
import math
import os

import numpy as np

from pipeline.run_files import SUCCESS, RunError
from transforms import storage

CHECKPOINT, BEST = "checkpoint.npz", "best.npz"
SCORE = "score"


@dataclasses.dataclass
class State:
    """How far a training is.

    Attributes:
        history: a row for each epoch: its number from 1, its losses, and after a validation the
            numbers of that.
        best: number of the best epoch so far, from 1; 0 before the first validation.
    """

    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    best: int = 0

    @property
    def epochs(self) -> int:
        return len(self.history)

    @property
    def best_score(self) -> float:
        return self.history[self.best - 1][SCORE] if self.best else -math.inf

    def is_at_rest(self, patience: int) -> bool:
        """Whether `patience` epochs up to a validated one brought no better score."""
        judged = bool(self.best) and SCORE in self.history[-1]
        return judged and self.epochs - self.best >= patience


def training_status(out: str, job: str) -> str:
    """How far the training in OUT is. Raises RunError when its checkpoint cannot be read."""
    path = os.path.join(out, CHECKPOINT)
    if not storage.exists(path):
        return f"{job} in {out}: no epoch is done yet"
    try:
        with np.load(io.BytesIO(storage.read_bytes(path)), allow_pickle=False) as arrays:
            state = State(**json.loads(arrays["state"].tobytes()))
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise RunError(f"{path} cannot be read: {error}") from error
    done = storage.exists(os.path.join(out, SUCCESS))
    lines = [
        f"{job} in {out}: {'complete' if done else 'not complete'}",
        f"  epochs   {state.epochs} done",
    ]
    if state.best:
        lines.append(
            f"  best     {state.best_score:.4f} on the validation part, epoch {state.best}"
        )
    return "\n".join(lines)

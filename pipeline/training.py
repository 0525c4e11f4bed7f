"""The loop of every training: epochs, validation, checkpoints, early stopping, exact resume.

All that a training knows lies in two files of OUT, each written whole: checkpoint.npz, with all
variables of model and optimizers after an epoch and the history up to it, and best.npz, with the
variables after the best epoch. Batches and random numbers depend on the seed and the number of the
epoch only, so a training that was killed goes on to the same place.
"""

import dataclasses
import io
import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from models.loading import first_line, import_tensorflow
from pipeline.run_files import RunError
from pipeline.train_state import BEST, CHECKPOINT, SCORE, State
from transforms import storage

tf = import_tensorflow()

_VALIDATIONS = 20  # of a whole training: each costs as much as a few steps


class TrainingFailed(Exception):
    """A training that had begun cannot go on; the message says what to do. Epochs before stay."""


@dataclasses.dataclass(frozen=True)
class Trainee:
    """What is trained.

    Attributes:
        model: compiled.
        batches: the batches of an epoch, a tf.data.Dataset; epochs count from 0.
        steps: batches in an epoch.
        validate: numbers about the validation part by name; "score" decides which epoch is best,
            the higher the better. Without one the last epoch is.
        score_name: what the score is, for people.
    """

    model: keras.Model
    batches: Callable[[int], Any]
    steps: int
    validate: Callable[[], Mapping[str, float]]
    score_name: str


def train(trainee: Trainee, out: str, epochs: int, patience: int) -> State:
    """Trains to the end, from the last checkpoint if there is one; the model is then the best one.

    Args:
        out: folder for the checkpoints.
        epochs: at most.
        patience: ends at a validation when so many epochs brought no better score.

    Raises:
        RunError: the checkpoint does not fit the model.
        TrainingFailed: a loss is not finite, memory is short, or examples cannot be read again.
    """
    state = load_checkpoint(trainee.model, out)
    every = max(1, epochs // _VALIDATIONS)
    if 0 < state.epochs < epochs:
        print(f"resuming after epoch {state.epochs} of {epochs}", flush=True)
    while state.epochs < epochs and not state.is_at_rest(patience):
        begin = time.monotonic()
        epoch = state.epochs
        row: dict[str, float] = {"epoch": epoch + 1}
        bar = _bar(epoch, epochs, trainee.steps)
        row |= _fit(trainee, epoch, bar)
        _check_finite(row)
        if (epoch + 1) % every == 0 or epoch + 1 == epochs:
            row |= trainee.validate()
        state.history.append(row)
        if row.get(SCORE, -math.inf) > state.best_score:
            state.best = epoch + 1
            storage.write(out, BEST, _packed(trainee.model, state))
        storage.write(out, CHECKPOINT, _packed(trainee.model, state))
        print(_line(row, epochs, state, trainee.score_name, time.monotonic() - begin), flush=True)
    if state.best:
        path = os.path.join(out, BEST)
        kept = _unpack(trainee.model, storage.read_bytes(path), out)
        if kept.best != state.best:
            raise RunError(
                f"{path} is of epoch {kept.best}, expected {state.best}: another training writes "
                "to it; let it end and give the command again"
            )
    return state


def train_through(trainee: Trainee, epochs: int) -> None:
    """Trains to the end, without validation and checkpoints; the model is then the last one.

    Raises:
        TrainingFailed: as `train`.
    """
    for epoch in range(epochs):
        losses = _fit(trainee, epoch, _bar(epoch, epochs, trainee.steps))
        _check_finite({"epoch": epoch + 1, **losses})


def copy_state(source: keras.Model, target: keras.Model) -> None:
    """Puts a model into the state of another of the same network: all that training changes."""
    for old, new in zip(_variables(source), _variables(target), strict=True):
        new.assign(old)


def _fit(trainee: Trainee, epoch: int, bar: keras.callbacks.Callback) -> dict[str, float]:
    """One epoch; the losses. Raises TrainingFailed."""
    try:
        fitted = trainee.model.fit(
            trainee.batches(epoch),
            steps_per_epoch=trainee.steps,
            shuffle=False,
            verbose=0,
            callbacks=[bar],
        )
    except tf.errors.ResourceExhaustedError as error:
        raise TrainingFailed(
            "the device ran out of memory; give a lower --batch_size, --crop_px or --width"
        ) from error
    except tf.errors.OpError as error:  # also what reading the examples again raises
        raise TrainingFailed(f"epoch {epoch + 1}: {first_line(error)}") from error
    return {name: float(values[-1]) for name, values in fitted.history.items()}


def load_checkpoint(model: keras.Model, out: str) -> State:
    """Puts a model into the state of OUT's checkpoint; a new State when there is none.

    Raises:
        RunError: it does not fit the model.
    """
    path = os.path.join(out, CHECKPOINT)
    if not storage.exists(path):
        return State()
    return _unpack(model, storage.read_bytes(path), out)


def _variables(model: keras.Model) -> list[Any]:
    """All that training changes: weights, states of random generators, and the optimizer's.

    Not the sums of losses for the display: these start anew with each epoch.
    """
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    shown = {id(variable) for metric in model.metrics for variable in metric.variables}
    kept = [variable for variable in model.variables if id(variable) not in shown]
    return list({id(v): v for v in (*kept, *model.optimizer.variables)}.values())


def _packed(model: keras.Model, state: State) -> bytes:
    arrays = {f"v{i:05d}": np.asarray(v) for i, v in enumerate(_variables(model))}
    buffer = io.BytesIO()
    about = json.dumps(dataclasses.asdict(state)).encode()
    np.savez(buffer, state=np.frombuffer(about, np.uint8), **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _unpack(model: keras.Model, data: bytes, out: str) -> State:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            state = State(**json.loads(arrays["state"].tobytes()))
            variables = _variables(model)
            if len(arrays.files) != len(variables) + 1:
                raise ValueError(f"{len(arrays.files) - 1} arrays for {len(variables)} variables")
            for number, variable in enumerate(variables):
                variable.assign(arrays[f"v{number:05d}"])
    except (ValueError, KeyError, TypeError, OSError, EOFError) as error:
        raise RunError(
            f"the checkpoint in {out} cannot be read or does not fit the network: {error}; "
            "--overwrite starts anew"
        ) from error
    return state


def _check_finite(row: Mapping[str, float]) -> None:
    for name, value in row.items():
        if not math.isfinite(value):
            raise TrainingFailed(
                f"{name} became {value} in epoch {row['epoch']:g}; give a lower --learning_rate"
            )


def _bar(epoch: int, epochs: int, steps: int) -> keras.callbacks.Callback:
    """On a terminal, a line that is drawn over: how far the epoch is."""
    shown = sys.stderr.isatty()
    begin = time.monotonic()

    def draw(batch: int, logs: Mapping[str, float] | None) -> None:
        if shown:
            done = batch + 1
            left_s = (time.monotonic() - begin) / done * (steps - done)
            filled = "#" * (24 * done // steps)
            losses = "  ".join(f"{k} {v:.4f}" for k, v in (logs or {}).items())
            end = "\r\x1b[K" if done == steps else ""
            sys.stderr.write(
                f"\r\x1b[Kepoch {epoch + 1}/{epochs} [{filled:<24}] {done}/{steps}  {losses}  "
                f"{left_s:.0f} s left{end}"
            )
            sys.stderr.flush()

    return keras.callbacks.LambdaCallback(on_train_batch_end=draw)


def _line(row: Mapping[str, float], epochs: int, state: State, score: str, took_s: float) -> str:
    shown = [f"epoch {row['epoch']:.0f}/{epochs}"]
    shown += [f"{name} {value:.4f}" for name, value in row.items() if name not in ("epoch", SCORE)]
    if SCORE in row:
        shown.append(f"best {score} {state.best_score:.4f} (epoch {state.best})")
    return "  ".join([*shown, f"{took_s:.1f} s"])

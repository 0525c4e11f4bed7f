"""Parts of a training: when it ends, which epoch it keeps, what its numbers are made of."""

from pathlib import Path

import keras
import numpy as np
import pytest

from models.loading import import_tensorflow
from pipeline import train_gan, training
from pipeline.run_files import RunError
from pipeline.train_files import _cell
from pipeline.train_setup import _weights
from pipeline.train_state import SCORE, State
from pipeline.training import Trainee, TrainingFailed, train
from transforms.training_data import Example

tf = import_tensorflow()


def history(*scores: float | None) -> list[dict[str, float]]:
    """Rows of epochs with these scores; None of an epoch that was not validated."""
    rows = [{"epoch": i + 1.0, SCORE: s} for i, s in enumerate(scores) if s is not None]
    rows += [{"epoch": i + 1.0} for i, s in enumerate(scores) if s is None]
    return sorted(rows, key=lambda row: row["epoch"])


@pytest.mark.parametrize(
    ("scores", "best", "patience", "ends"),
    [
        ([], 0, 1, False),
        ([None, None, 0.5], 3, 1, False),
        ([None, None, 0.5, None], 3, 1, False),  # nobody looked whether epoch 4 is better
        ([None, None, 0.5, None, None, 0.4], 3, 1, True),
        ([None, None, 0.5, None, None, 0.4], 3, 4, False),
    ],
)
def test_only_a_validation_ends_a_training(
    scores: list[float | None], best: int, patience: int, ends: bool
) -> None:
    assert State(history(*scores), best).is_at_rest(patience) is ends


def test_a_best_epoch_of_another_training_is_not_taken(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    data = np.ones((4, 1), np.float32)
    batches = tf.data.Dataset.from_tensors((data, data))
    trainee = Trainee(model, lambda epoch: batches, 1, lambda: {SCORE: 0.5}, "score")
    assert train(trainee, str(tmp_path), 2, 5).best == 1
    other = State([{"epoch": 1.0}, {"epoch": 2.0, SCORE: 1.0}], 2)
    (tmp_path / "best.npz").write_bytes(training._packed(model, other))
    with pytest.raises(RunError, match="is of epoch 2, expected 1: another training"):
        train(trainee, str(tmp_path), 2, 5)


@pytest.mark.parametrize(
    ("raises", "words"),
    [
        (tf.errors.ResourceExhaustedError(None, None, "OOM"), "lower --batch_size"),
        (tf.errors.DataLossError(None, None, "a shard is gone"), "epoch 1: .*a shard is gone"),
        (None, "loss became nan in epoch 1"),
    ],
)
def test_a_training_that_cannot_go_on_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raises: Exception | None, words: str
) -> None:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    data = np.full((4, 1), np.nan, np.float32)
    batches = tf.data.Dataset.from_tensors((data, data))
    trainee = Trainee(model, lambda epoch: batches, 1, lambda: {SCORE: 0.5}, "score")
    if raises is not None:

        def fail(*args: object, **more: object) -> None:
            raise raises

        monkeypatch.setattr(model, "fit", fail)
    with pytest.raises(TrainingFailed, match=words):
        train(trainee, str(tmp_path), 2, 5)
    assert not (tmp_path / "checkpoint.npz").exists()


def test_a_cell_holds_no_markup() -> None:
    assert _cell("a|b\r\n<script> c") == "a\\|b \\<script> c"


def test_weights_leave_the_ignored_class_aside() -> None:
    counts = np.asarray([1_000_000, 100, 400])
    weights = _weights(counts, "balanced", 0)
    assert weights[0] == 1
    np.testing.assert_allclose(weights[1:], _weights(counts[1:], "balanced", -1))
    np.testing.assert_allclose(weights[1] / weights[2], 2)
    assert np.isfinite(_weights(np.asarray([3, 5, 0]), "balanced", 2)).all()


def test_every_class_is_compared_when_the_data_are_in_their_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(train_gan, "_MOST_COMPARED", 6)
    pixels = np.zeros((1, 1, 3), np.uint8)
    examples = [Example(str(i), pixels, label=i // 10) for i in range(30)]
    found = [example.label for example in train_gan._of_each_class(examples, 3)]
    assert found == [0, 0, 1, 1, 2, 2]

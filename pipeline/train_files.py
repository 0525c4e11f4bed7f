"""What a training leaves in OUT: numbers, curves, and the model with its card."""

import csv
import io
import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import yaml

from models.networks.export import export
from models.networks.geometry import receptive_field
from pipeline import run_files
from pipeline.train_state import SCORE, State
from pipeline.trainees import Trained
from transforms import storage
from transforms.confusion import Scores, scores
from transforms.training_data import Survey

MODEL = "model"
CARD = "MODEL_CARD.md"
CURVES_CSV, CURVES_PNG = "curves.csv", "curves.png"


def write_results(
    out: str,
    run: run_files.Run,
    trained: Trained,
    state: State,
    *,
    survey: Survey,
    classes: Sequence[str],
) -> None:
    """Measures the trained model, exports it, and writes all files but the checkpoints."""
    confusion = trained.confusion()
    found = scores(confusion)
    metrics = {
        "format": run_files.FORMAT,
        "job": run.job,
        "epochs": state.epochs,
        "best_epoch": state.best,
        "examples": {part: len(keys) for part, keys in survey.keys.items()},
        "accuracy": found.accuracy,
        **found.means,
        "classes": class_rows(found, confusion, classes),
        "confusion": confusion.tolist(),
        "left_out": [[key, failure.message] for key, failure in survey.failed],
    }
    storage.write(out, run_files.METRICS, json.dumps(_without_nan(metrics), indent=1).encode())
    storage.write(out, CURVES_CSV, curves_csv(state).encode())
    storage.write(out, CURVES_PNG, curves_png(state, trained.trainee.score_name))
    network = trained.trainee.model
    field = receptive_field(keras.Model(network.inputs, network.outputs[-1]))
    card = pipeline_card(run, classes, field.size_hw)
    text = model_card(run, metrics, survey, field.size_hw)
    write_model(out, trained.served, card, text)
    storage.write(out, run_files.SUCCESS, b"")
    print()
    print("\n".join(table(found, classes)))
    print(f"\nmodel: {os.path.join(out, MODEL)}\ncard:  {os.path.join(out, CARD)}")


def write_model(out: str, served: Any, card: str, text: str) -> None:
    """Exports into OUT/model, saved_model.pb last, so that half a model is none."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = os.path.join(temporary, MODEL)
        export(served, folder, card, {f"assets.extra/{CARD}": text})
        files = [name for name, _ in storage.list_files(folder)]
        storage.delete_tree(os.path.join(out, MODEL))
        for name in sorted(files, key=lambda name: name == "saved_model.pb"):
            data = storage.read_bytes(os.path.join(folder, name))
            storage.write(out, f"{MODEL}/{name}", data)
    storage.write(out, CARD, text.encode())


def class_rows(
    found: Scores, confusion: npt.NDArray[np.int64], classes: Sequence[str]
) -> list[dict[str, Any]]:
    """A row of metrics for each class."""
    return [
        {
            "id": i,
            "name": name,
            **{metric: float(values[i]) for metric, values in found.by_class.items()},
            "count": int(confusion[i].sum()),
        }
        for i, name in enumerate(classes)
    ]


def table(found: Scores, classes: Sequence[str]) -> list[str]:
    """The metrics as lines of text."""
    names = list(found.by_class)
    width = max(len("mean"), *(len(name) for name in classes))
    lines = ["  ".join([f"{'validation':<{width}}", *(f"{name:>9}" for name in names)])]
    for i, name in enumerate(classes):
        numbers = (f"{values[i]:9.4f}" for values in found.by_class.values())
        lines.append("  ".join([f"{name:<{width}}", *numbers]))
    numbers = (f"{found.means[f'mean_{name}']:9.4f}" for name in names)
    lines.append("  ".join([f"{'mean':<{width}}", *numbers]))
    return [*lines, f"accuracy {found.accuracy:.4f}"]


def curves_csv(state: State) -> str:
    """The history, a line for each epoch; empty cells where nothing was measured."""
    names = sorted({name for row in state.history for name in row} - {"epoch", SCORE})
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, ["epoch", *names], extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "epoch": round(row["epoch"])} for row in state.history)
    return buffer.getvalue()


def curves_png(state: State, score_name: str) -> bytes:
    """Loss and score by epoch, as a picture."""
    from matplotlib.figure import Figure  # takes a second: for this moment only

    epochs = [row["epoch"] for row in state.history]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(epochs, [row["loss"] for row in state.history], color="#3465a4")
    left.set(title="training loss", xlabel="epoch", yscale="log")
    judged = [row for row in state.history if SCORE in row]
    right.plot([r["epoch"] for r in judged], [r[SCORE] for r in judged], ".-", color="#4e9a06")
    if state.best:
        right.axvline(state.best, color="#888888", linewidth=1, linestyle=":")
    right.set(title=f"validation: {score_name}", xlabel="epoch")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def pipeline_card(
    run: run_files.Run, classes: Sequence[str], field_hw: tuple[int, int] | None
) -> str:
    """The card that the pipeline reads (models/card.py)."""
    fields: dict[str, Any] = {
        "signature": "serving_default",
        "output": {"name": "logits", "kind": "logits"},
        "classes": list(classes),
    }
    if run.job == "train segmenter":
        fields["output"]["layout"] = "NHWC"
    if field_hw is not None:
        fields["receptive_field"] = list(field_hw)
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)


def model_card(
    run: run_files.Run,
    metrics: Mapping[str, Any],
    survey: Survey,
    field_hw: tuple[int, int] | None,
) -> str:
    """The card for people, in Markdown (after Mitchell et al. 2019, arXiv:1810.03993)."""
    kind = run.job.removeprefix("train ")
    sizes = sorted(survey.sizes_hw.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{w}x{h} ({n:,})" for (h, w), n in sizes[:5])
    named = [
        f"| {name.replace('_', ' ')} | {metrics[name]:.4f} |"
        for name in sorted(metrics)
        if name.startswith(("mean_", "accuracy"))
    ]
    rows = [
        "| {name} | {precision} | {recall} | {f1} | {iou} | {count:,} |".format(
            name=_cell(row["name"]),
            count=row["count"],
            **{m: f"{row[m]:.4f}" for m in ("precision", "recall", "f1", "iou")},
        )
        for row in metrics["classes"]
    ]
    group = run.identity["split"][1]
    split = f"what {_cell(group)} finds in their names" if group else "their names"
    unit = "pixels" if kind == "segmenter" else "pictures"
    field = "the whole picture" if field_hw is None else "{}x{} pixels".format(*field_hw)
    lines = [
        f"# A {kind}, trained by pixelmill",
        "",
        f"- Network: {json.dumps(run.identity['network'])}",
        f"- Receptive field (height x width): {field}",
        f"- Classes: {', '.join(_cell(row['name']) for row in metrics['classes'])}",
        f"- Data: {metrics['examples']['train']:,} examples to train on, "
        f"{metrics['examples']['validation']:,} to validate with, split by a hash of {split}; "
        f"sizes {shown}{', ...' if len(sizes) > 5 else ''}",
        f"- Training: {json.dumps(run.identity['settings'])}, best of {metrics['epochs']} epochs "
        f"by validation: {metrics['best_epoch']}",
        f"- Licence: {run.notes['licence'] or 'not stated; that of the data may bind the model'}",
        "",
        "Takes uint8 RGB pictures of any size, `image` [N, H, W, 3]; gives `logits`. The signature "
        "`encoded` takes encoded pictures instead, `image_bytes` [N].",
        "",
        "Measured on the validation part, on which the best epoch was chosen too:",
        "",
        "| metric | value |",
        "|---|---|",
        *named,
        "",
        f"| class | precision | recall | F1 | IoU | {unit} |",
        "|---|---|---|---|---|---|",
        *rows,
    ]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _without_nan(value: Any) -> Any:
    """The same with None for what is not a number, which JSON cannot hold."""
    if isinstance(value, Mapping):
        return {name: _without_nan(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

"""What a training leaves in OUT: numbers, curves, and the model with its card."""

import csv
import io
import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from models.networks.export import export
from models.networks.geometry import receptive_field
from pipeline import run_files
from pipeline.train_batches import Measured, Trained
from pipeline.train_state import SCORE, State
from transforms import storage
from transforms.training_data import Survey

MODEL = "model"
CARD = "MODEL_CARD.md"
_PICTURES_IN = (
    "Takes uint8 RGB pictures of any size, `image` [N, H, W, 3]; gives {}. The signature "
    "`encoded` takes encoded pictures instead, `image_bytes` [N], and does not turn them by EXIF."
)
_SIGNATURES = {
    "segmenter": _PICTURES_IN.format("`logits` [N, H, W, classes]"),
    "classifier": _PICTURES_IN.format("`logits` [N, classes] and `features`, which describe them"),
    "generator": "Takes `noise` [N, latent], normal with mean 0 and deviation 1, and `label` [N]; "
    "gives `image` [N, H, W, channels] in -1 to 1.",
}
_VALIDATED = "Measured on the validation part, on which the best epoch was chosen too:"
_HOW_MEASURED = {
    "segmenter": _VALIDATED,
    "classifier": _VALIDATED,
    "generator": "Measured on 100 pictures of each class: `spread` is their mean distance by that "
    "of the real ones trained with (1 is as varied, 0 is one picture), `copies` the share that is "
    "nearer to one of these than 99 % of them are to each other. Whether they show what was asked "
    "for, a classifier tells.",
}
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
    found = trained.measure()
    metrics = {
        "format": run_files.FORMAT,
        "job": run.job,
        "epochs": state.epochs,
        "best_epoch": state.best or state.epochs,
        "examples": {part: len(keys) for part, keys in survey.keys.items()},
        **found.means,
        "classes": class_rows(found, survey, classes),
        "confusion": None if found.confusion is None else found.confusion.tolist(),
        "left_out": [[key, failure.message] for key, failure in survey.failed],
    }
    storage.write(out, run_files.METRICS, json.dumps(_without_nan(metrics), indent=1).encode())
    storage.write(out, CURVES_CSV, curves_csv(state).encode())
    storage.write(out, CURVES_PNG, curves_png(state, trained.trainee.score_name))
    field_hw = _field_hw(run, trained)
    text = model_card(run, metrics, found, survey, field_hw=field_hw)
    write_model(out, trained.served, pipeline_card(run, classes, field_hw), text)
    storage.write(out, run_files.SUCCESS, b"")
    storage.delete_dead(out)
    print()
    print("\n".join(table(found, classes)))
    print(f"\nmodel: {os.path.join(out, MODEL)}\ncard:  {os.path.join(out, CARD)}")


def _field_hw(run: run_files.Run, trained: Trained) -> tuple[int, int] | None:
    """The receptive field of a segmenter; others see, or make, the whole picture."""
    if run.job != "train segmenter":
        return None
    return receptive_field(trained.network).size_hw


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


def class_rows(found: Measured, survey: Survey, classes: Sequence[str]) -> list[dict[str, Any]]:
    """A row of metrics for each class; `count` is its pixels, or pictures, in both parts."""
    counts = [survey.counts[part] for part in ("train", "validation")]
    return [
        {
            "id": i,
            "name": name,
            **{metric: float(values[i]) for metric, values in found.by_class.items()},
            "count": sum(int(count[i]) for count in counts if i < len(count)),
        }
        for i, name in enumerate(classes)
    ]


def table(found: Measured, classes: Sequence[str]) -> list[str]:
    """The metrics as lines of text."""
    width = max(len("mean"), *(len(name) for name in classes))
    lines = ["  ".join([" " * width, *(f"{name:>9}" for name in found.by_class)])]
    for i, name in enumerate(classes):
        numbers = (f"{values[i]:9.4f}" for values in found.by_class.values())
        lines.append("  ".join([f"{name:<{width}}", *numbers]))
    numbers = (f"{found.means[f'mean_{name}']:9.4f}" for name in found.by_class)
    lines.append("  ".join([f"{'mean':<{width}}", *numbers]))
    if "accuracy" in found.means:
        lines.append(f"accuracy {found.means['accuracy']:.4f}")
    return lines


def curves_csv(state: State) -> str:
    """The history, a line for each epoch; empty cells where nothing was measured."""
    names = sorted({name for row in state.history for name in row} - {"epoch", SCORE})
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, ["epoch", *names], extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "epoch": round(row["epoch"])} for row in state.history)
    return buffer.getvalue()


def curves_png(state: State, score_name: str) -> bytes:
    """Losses and score by epoch, as a picture."""
    from matplotlib.figure import Figure  # takes a second: for this moment only

    judged = [row for row in state.history if SCORE in row]
    figure = Figure(figsize=(9 if judged else 6, 3.6), layout="constrained")
    left, *right = figure.subplots(1, 2 if judged else 1, squeeze=False)[0]
    for name in [name for name in state.history[0] if name.endswith("loss")]:
        rows = [row for row in state.history if name in row]
        left.plot([row["epoch"] for row in rows], [row[name] for row in rows], label=name)
    left.set(title="training", xlabel="epoch")
    left.legend()
    for axes in right:
        axes.plot([r["epoch"] for r in judged], [r[SCORE] for r in judged], ".-", color="#4e9a06")
        axes.axvline(state.best, color="#888888", linewidth=1, linestyle=":")
        axes.set(title=f"validation: {score_name}", xlabel="epoch")
    for axes in figure.axes:
        axes.grid(alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def pipeline_card(
    run: run_files.Run, classes: Sequence[str], field_hw: tuple[int, int] | None
) -> str:
    """The card that the pipeline reads (models/card.py)."""
    fields: dict[str, Any] = {"signature": "serving_default", "classes": list(classes)}
    if run.job == "train generator":
        fields["inputs"] = {"noise": {"role": "latent"}, "label": {"role": "label"}}
        fields["output"] = {"name": "image", "kind": "image", "range": "-1,1"}
    else:
        fields["output"] = {"name": "logits", "kind": "logits"}
    if run.job == "train segmenter":
        fields["output"]["layout"] = "NHWC"
    if field_hw is not None:
        fields["receptive_field"] = list(field_hw)
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)


def model_card(
    run: run_files.Run,
    metrics: Mapping[str, Any],
    found: Measured,
    survey: Survey,
    *,
    field_hw: tuple[int, int] | None,
) -> str:
    """The card for people, in Markdown (after Mitchell et al. 2019, arXiv:1810.03993)."""
    kind = run.job.removeprefix("train ")
    sizes = sorted(survey.sizes_hw["train"].items(), key=lambda item: -item[1])
    shown = ", ".join(f"{w}x{h} ({n:,})" for (h, w), n in sizes[:5])
    group = run.identity["split"][1]
    split = f"what {_cell(group)} finds in their names" if group else "their names"
    field = [] if field_hw is None else ["- Receptive field: {} x {} pixels".format(*field_hw)]
    names = list(found.by_class)
    unit = "pixels" if kind == "segmenter" else "pictures"
    lines = [
        f"# A {kind}, trained by pixelmill",
        "",
        _SIGNATURES[kind],
        "",
        f"- Network: {_setting_text(run.identity['network'])}",
        *field,
        f"- Classes: {', '.join(_cell(row['name']) for row in metrics['classes'])}",
        f"- Data: {metrics['examples']['train']:,} examples to train on, "
        f"{metrics['examples']['validation']:,} to validate with, split by a hash of {split}; "
        f"sizes of the first {shown}{', ...' if len(sizes) > 5 else ''}",
        f"- Training: {_setting_text(run.identity['settings'])}; epoch {metrics['best_epoch']} of "
        f"{metrics['epochs']} was kept",
        f"- Licence: {_cell(run.notes['licence']) or 'not stated; that of the data may bind it'}",
        "",
        _HOW_MEASURED[kind],
        "",
        "| metric | value |",
        "|---|---|",
        *(f"| {name.replace('_', ' ')} | {value:.4f} |" for name, value in found.means.items()),
        "",
        f"| class | {' | '.join(names)} | {unit} in the data |",
        f"|---|{'---|' * (len(names) + 1)}",
    ]
    for row in metrics["classes"]:
        cells = " | ".join(f"{row[name]:.4f}" for name in names)
        lines.append(f"| {_cell(row['name'])} | {cells} | {row['count']:,} |")
    return "\n".join(lines) + "\n"


def _setting_text(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {json.dumps(value)}" for name, value in settings.items())


def _cell(text: str) -> str:
    """Text on one line, in which Markdown finds neither HTML nor the end of a cell."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "\\<")


def _without_nan(value: Any) -> Any:
    """The same with None for what is not a number, which JSON cannot hold."""
    if isinstance(value, Mapping):
        return {name: _without_nan(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

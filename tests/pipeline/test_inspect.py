"""`pixelmill inspect`: what it says, in words, in JSON and as a card, without running the model."""

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from support import real_data

from models.card import load_card
from models.rules import bind
from models.signatures import read_model
from pipeline import cli

FLOATS = tf.TensorSpec([None, None, None, 3], tf.float32, name="image")
STRINGS = tf.TensorSpec([None], tf.string, name="x")


def first_two(x: Any) -> dict[str, Any]:
    return {"out": 4 * x[..., :2] - 2}


def decoded(x: Any) -> dict[str, Any]:
    spec = tf.TensorSpec([None, None, 3], tf.uint8)
    images = tf.map_fn(lambda d: tf.io.decode_png(d, 3), x, fn_output_signature=spec)
    return {"out": tf.cast(images[..., :2], tf.float32)}


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Saves functions as signatures; one alone as the default, none as a bare function."""

    def save(spec: Any, function: Any, *names: str) -> str:
        path = str(tmp_path_factory.mktemp("models") / "my model")
        concrete = tf.function(function).get_concrete_function(spec)
        if names:
            tf.saved_model.save(tf.Module(), path, signatures=dict.fromkeys(names, concrete))
        else:
            tf.saved_model.save(concrete, path)
        return path

    return save


def inspected(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["inspect", *arguments]) == 0
    return capsys.readouterr().out


def run_last_line(text: str, tmp_path: Path, more: tuple[str, ...] = ()) -> int:
    """Runs the command that inspect ends with, on a picture."""
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "a.png")
    places = {"IMAGES": str(tmp_path / "a.png"), "OUT": str(tmp_path / "out")}
    words = [places.get(word, word) for word in shlex.split(text.strip().splitlines()[-1])]
    return cli.main([*words[1:], *more])


def test_a_model_that_says_it_all(
    tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = inspected(capsys, tiny_model)
    for part in (
        "tags serve",
        "fingerprint  " + read_model(tiny_model).fingerprint[:16],
        "in         image: uint8[N,N,N,3]",
        "out        logits: float32[N,N,N,5]",
        "runs with    image of any size, RGB in NHWC",
        "batches      any",
        "\nTo run it:\n",
    ):
        assert part in text
    assert run_last_line(text, tmp_path) == 0


@pytest.mark.parametrize(
    ("spec", "function", "names", "question", "flags"),
    [
        (FLOATS, first_two, ("a",), "How were the pixels scaled", ["--value_range=0,1"]),
        (FLOATS, first_two, (), "How were the pixels scaled", ["--value_range=0,1"]),
        (STRINGS, decoded, ("a",), "encoded images (bytes) or", ["--input_role=bytes"]),
        (
            FLOATS,
            first_two,
            ("a", "b"),
            "several signatures",
            ["--signature=a", "--value_range=0,1"],
        ),
    ],
)
def test_one_question_and_a_command_that_runs(
    export: Callable[..., str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spec: Any,
    function: Any,
    names: tuple[str, ...],
    question: str,
    flags: list[str],
) -> None:
    text = inspected(capsys, export(spec, function, *names))
    assert question in text
    assert shlex.split(text.strip().splitlines()[-1])[-len(flags) :] == flags
    assert run_last_line(text, tmp_path) == 0


def test_json_says_the_same(export: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    path = export(FLOATS, first_two)
    found = json.loads(inspected(capsys, path, "--json"))
    assert found["signatures"][0]["call"] == "positional"
    assert found["card"]["input"]["name"] == "image"
    assert found["card"]["input"]["range"] is None
    assert "value_range" in found["question"]
    assert found["command"].endswith("--value_range=0,1")
    assert found["fingerprint"] == read_model(path).fingerprint
    assert found["tags"] == ["serve"]


@pytest.mark.parametrize("spec_and_function", [(FLOATS, first_two), (STRINGS, decoded)])
def test_the_card_is_read_back(
    export: Callable[..., str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spec_and_function: tuple[Any, Any],
) -> None:
    path, file = export(*spec_and_function, "a"), tmp_path / "card.yaml"
    text = inspected(capsys, path, "--write_card", str(file))
    assert f"--model_card {file}" in text
    written = file.read_text()
    if spec_and_function[0] is FLOATS:
        assert '  # range: "0,1"' in written
        written = written.replace("# range:", "range:")
    else:
        written = written.replace("# role:", "role:")
    file.write_text(written)
    binding = bind(read_model(path), load_card(str(file), {}))
    assert (binding.signature, binding.output_name) == ("a", "out")


def test_every_open_line_of_a_card_is_a_field(
    tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each line behind a # may be opened alone and is then understood."""
    file = tmp_path / "card.yaml"
    inspected(capsys, tiny_model, "--write_card", str(file))
    assert load_card(str(file), {}).input.range == "0,255"
    lines = file.read_text().splitlines()
    opened = 0
    for i, line in enumerate(lines[3:], 3):
        if line.lstrip().startswith("# "):
            file.write_text("\n".join([*lines[:i], line.replace("# ", "", 1), *lines[i + 1 :]]))
            load_card(str(file), {})
            opened += 1
    assert opened > 6


def test_a_card_is_not_overwritten(
    tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "card.yaml"
    file.write_text("mine")
    assert cli.main(["inspect", tiny_model, "--write_card", str(file)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert file.read_text() == "mine"
    assert cli.main(["inspect", tiny_model, "--write_card", str(tmp_path / "no" / "c")]) == 2


def test_names_of_strangers_end_no_comment(
    export: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, file = export(FLOATS, first_two, "a\nclasses: [x, y]"), tmp_path / "card.yaml"
    inspected(capsys, path, "--write_card", str(file))
    card = load_card(str(file), {})
    assert card.signature == "a\nclasses: [x, y]"
    assert card.classes is None


def test_versions_are_shown_and_the_newest_is_run(
    tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for version in ("2", "10"):
        shutil.copytree(tiny_model, tmp_path / "base" / version)
    text = inspected(capsys, str(tmp_path / "base"))
    assert "versions     2, 10; the newest is taken" in text
    assert run_last_line(text, tmp_path) == 0
    assert "model: version 10, the newest of 2, 10" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "run.json").read_text())


def test_nothing_is_loaded_or_run(
    tiny_model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy = shutil.copytree(tiny_model, tmp_path / "copy")
    shutil.rmtree(copy / "variables")
    monkeypatch.setattr(tf.saved_model, "load", None)
    assert "To run it" in inspected(capsys, str(copy))


def test_what_is_no_model_or_has_no_such_graph(
    tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["inspect", str(tmp_path)]) == 2
    assert "is not a SavedModel" in capsys.readouterr().err
    assert cli.main(["inspect", tiny_model, "--tags=eval"]) == 2
    assert "It offers: serve" in capsys.readouterr().err


@pytest.mark.real_data
def test_models_of_strangers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every model is described; those that are no segmenters are told so, with a card to fill."""
    root = Path(real_data("saved_models"))
    told = {}
    for file in sorted(root.rglob("saved_model.pb")):
        name = str(file.parent.relative_to(root))
        card = tmp_path / f"{len(told)}.yaml"
        told[name] = inspected(capsys, str(file.parent), "--write_card", str(card))
        load_card(str(card), {})
    assert "written by TF1" in told["deeplab_nchw_tf1"]
    assert "--value_range=0,1" in told["deeplab_nchw_tf1"]
    assert "To run it" in told["deeplab_portrait_tf1"]
    assert "written by Keras 2" in told["basic_pitch_three_outputs"]
    counter = told["tf_serving_testdata/saved_model_counter/00000123"]
    assert "It cannot be run as it is" in counter
    assert "pixelmill segment" not in counter

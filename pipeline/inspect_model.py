"""`pixelmill inspect`: what a SavedModel takes and gives, and what must be said to run it.

Only the graph's description is read: nothing is executed and no variable is loaded.
"""

import dataclasses
import json
import os
import shlex
from collections.abc import Sequence
from typing import Any

from models.binding import Binding
from models.rules import bind
from models.card import load_card
from models.card_text import card_text
from models.errors import ModelError, UserError
from models.signatures import ModelInfo, read_model

_RANGE_QUESTION = """\
It takes floats. How were the pixels scaled in training? To [0, 1], to [-1, 1], or not at all
(0 to 255, the model scales by itself)? Say so by --value_range:"""
_ROLE_QUESTION = """\
It takes strings. Are they encoded images (bytes) or tf.Examples that hold one (example)?
Say so by --input_role:"""


@dataclasses.dataclass(frozen=True)
class Findings:
    """What was found out about a model.

    Attributes:
        info: what is in its files.
        binding: how to call it, as far as can be said; None when even the tensors are unclear.
        question: what a person must say, "" when nothing is open.
        flags: that answer the question, with a guess.
    """

    info: ModelInfo
    binding: Binding | None
    question: str = ""
    flags: tuple[str, ...] = ()

    @property
    def asked(self) -> frozenset[str]:
        """Names of the flags that answer the question."""
        return frozenset(flag.partition("=")[0] for flag in self.flags)


def inspect(
    path: str,
    tags: Sequence[str] | None = None,
    card_file: str | None = None,
    as_json: bool = False,
) -> str:
    """Describes a SavedModel, and writes a card to edit if asked to.

    Raises:
        ModelError: it is none.
        UserError: the card cannot be written, or the file is there already.
    """
    found = examine(path, tags)
    if card_file is not None:
        _write_new(card_file, card_text(found.info, found.binding, found.asked, found.question))
    command = _command(path, tags, found, card_file)
    if as_json:
        return json.dumps(_as_json(found, command), indent=1)
    lines = [*_described(found.info), *_bound(found)]
    if found.binding is None:
        lines += ["", f"It cannot be run as it is: {found.question}"]
    else:
        lines += ["", found.question or "To run it:", "", f"  {command}"]
    if card_file is not None:
        lines += ["", f"The card is in {card_file}; fill in what is behind a # and open."]
    return "\n".join(lines)


def examine(path: str, tags: Sequence[str] | None = None) -> Findings:
    """Reads a model and binds it without a card, guessing where only a person can know."""
    try:
        info = read_model(os.path.abspath(os.path.expanduser(path)), tags)
    except (OSError, ValueError) as error:
        raise ModelError(str(error)) from error
    return _find(info, {"tags": list(tags) if tags else None})


def _find(info: ModelInfo, card: dict[str, Any]) -> Findings:
    try:
        return Findings(info, bind(info, load_card(None, card)))
    except ModelError as error:
        message = str(error)
    outputs = {tensor.name for signature in info.signatures for tensor in signature.outputs}
    inputs = {tensor.name for signature in info.signatures for tensor in signature.inputs}
    for flag, field, guesses, question in (
        ("--value_range", "input.range", ["0,1"], _RANGE_QUESTION),
        ("--input_role", "input.role", ["bytes"], _ROLE_QUESTION),
        ("--signature", "signature", [s.name for s in info.signatures], message),
        ("--input_name", "input.name", sorted(inputs), message),
        ("--output_name", "output.name", sorted(outputs), message),
        ("--image_size", "input.size", ["512x512"], message),
    ):
        if flag not in message or card.get(field):
            continue
        for guess in guesses:
            said = [int(side) for side in guess.split("x")] if flag == "--image_size" else guess
            found = _find(info, card | {field: said})
            if found.binding is not None:
                questions = "\n\n".join(filter(None, [question, found.question]))
                return Findings(info, found.binding, questions, (f"{flag}={guess}", *found.flags))
    return Findings(info, None, message)


def _described(info: ModelInfo) -> list[str]:
    wrote = f"{info.origin}, " if info.origin else ""
    lines = [
        info.path,
        f"  size         {info.size_bytes / 1e6:,.2f} MB, written by {wrote}TensorFlow "
        f"{info.tensorflow_version or 'unknown'}, tags {', '.join(info.tags) or 'none'}",
        f"  fingerprint  {info.fingerprint[:16]}",
    ]
    if info.versions:
        lines.append(f"  versions     {', '.join(info.versions)}; the newest is taken")
    if len(info.tag_sets) > 1:
        sets = "; ".join(",".join(tags) or "(no tag)" for tags in info.tag_sets)
        lines.append(f"  graphs       {sets}; choose one by --tags")
    for signature in info.signatures:
        what = "signature   " if signature.call == "signature" else "function    "
        lines.append(f"  {what} {signature.name}")
        lines += [f"    in         {tensor}" for tensor in signature.inputs]
        lines += [f"    out        {tensor}" for tensor in signature.outputs]
    return lines


def _bound(found: Findings) -> list[str]:
    binding = found.binding
    if binding is None:
        return []
    size = "any size" if binding.size_hw is None else "{}x{}".format(*binding.size_hw)
    batch = "any" if binding.fixed_batch is None else str(binding.fixed_batch)
    takes = {"image": "", "bytes": " as PNG", "example": " as tf.Examples of PNGs"}[binding.role]
    kind = binding.kind or "scores whose kind is found by running it once"
    return [
        f"  runs with    {binding.input_name} of {size}{takes}, {binding.channels} in "
        f"{binding.input_layout}, batches of {batch}",
        f"  answers      {binding.output_name}, {kind}",
    ]


def _command(path: str, tags: Sequence[str] | None, found: Findings, card_file: str | None) -> str:
    words = ["pixelmill", "segment", "--input", "IMAGES", "--output", "OUT", "--model", path]
    if card_file is not None:
        words += ["--model_card", card_file]
    elif tags:
        words.append(f"--tags={','.join(tags)}")
    return shlex.join([*words, *found.flags])


def _as_json(found: Findings, command: str) -> dict[str, Any]:
    info = dataclasses.asdict(found.info)
    card = None
    if found.binding is not None:
        binding, asked = found.binding, found.asked
        card = {
            "signature": None if "--signature" in asked else binding.signature,
            "tags": binding.tags,
            "input": {
                "name": None if "--input_name" in asked else binding.input_name,
                "role": None if "--input_role" in asked else binding.role,
                "range": None
                if "--value_range" in asked
                else "{:g},{:g}".format(*binding.value_range),
                "channels": binding.channels,
                "layout": binding.input_layout,
                "size": None if "--image_size" in asked else binding.size_hw,
                "batch": binding.fixed_batch,
            },
            "output": {
                "name": None if "--output_name" in asked else binding.output_name,
                "kind": binding.kind,
            },
        }
    return info | {"card": card, "question": found.question or None, "command": command}


def _write_new(path: str, text: str) -> None:
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise UserError(f"{path} exists already; a card is not overwritten") from error
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error

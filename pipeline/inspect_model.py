"""`pixelmill inspect`: what a SavedModel takes and gives, and what must be said to run it.

Only the graph's description is read: nothing is executed and no variable is loaded.
"""

import dataclasses
import json
import shlex
from collections.abc import Sequence
from typing import Any

from models.binding import OtherInput
from models.card import load_card, own_card
from models.card_text import card_text
from models.classifier import bind_classifier
from models.errors import ModelError, UserError
from models.findings import Findings, examine
from models.signatures import ModelInfo
from transforms import paths, storage
from transforms.staging import local_model, remote_name

_CLASSIFIER = "It tells what a whole picture shows. To check generated pictures with it:"
_VERIFYING = (
    *("pixelmill", "generate", "--model", "GENERATOR", "--per_class=100", "--output", "OUT"),
    "--verifier",
)
_OTHERWISE = "Its output could be scores of classes, or pictures. If it makes pictures:"


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
    place = paths.absolute(path)
    if storage.is_remote(place):
        storage.check_place(place)
    staged = local_model(place)
    try:
        found = examine(staged, tags)
    except ModelError as error:
        raise ModelError(str(error).replace(staged, place)) from error
    brought = own_card(found.info.path)
    classifies = found.binding is None and _is_classifier(found.info)
    known_as = remote_name(found.info.path, staged, place)
    found = dataclasses.replace(found, info=dataclasses.replace(found.info, path=known_as))
    if card_file is not None:
        _write_new(card_file, card_text(found.info, found.binding, found.asked, found.question))
    command = _command(path, tags, found, card_file)
    if classifies:
        found = dataclasses.replace(found, question="")
        command = shlex.join([*_VERIFYING, path])
    if as_json:
        return json.dumps(_as_json(found, command), indent=1)
    lines = [*_described(found.info, brought), *_bound(found)]
    if classifies:
        lines += ["", _CLASSIFIER, "", f"  {command}"]
    elif found.binding is None:
        lines += ["", f"It cannot be run as it is: {found.question}"]
    else:
        lines += ["", found.question or "To run it:", "", f"  {command}"]
        for note in found.notes:
            lines += ["", note]
        if found.otherwise is not None:
            lines += ["", _OTHERWISE, "", f"  {_command(path, tags, found.otherwise, None)}"]
    if card_file is not None:
        lines += ["", f"The card is in {card_file}; fill in what is behind a # and open."]
    return "\n".join(lines)


def _is_classifier(info: ModelInfo) -> bool:
    """Whether it answers scores for a whole picture, as a verifier does."""
    try:
        bind_classifier(info, load_card(own_card(info.path), {}))
    except ModelError:
        return False
    return True


def _described(info: ModelInfo, card_path: str | None) -> list[str]:
    wrote = f"{info.origin}, " if info.origin else ""
    lines = [
        info.path,
        f"  size         {info.size_bytes / 1e6:,.2f} MB, written by {wrote}TensorFlow "
        f"{info.tensorflow_version or 'unknown'}, tags {', '.join(info.tags) or 'none'}",
        f"  fingerprint  {info.fingerprint[:16]}",
    ]
    if info.versions:
        lines.append(f"  versions     {', '.join(info.versions)}; the newest is taken")
    if card_path is not None:
        field = load_card(card_path, {}).receptive_field
        sees = "" if field is None else "; an output sees {} x {} pixels".format(*field)
        lines.append(f"  card         brings its own{sees}")
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
    others = [f"  runs with    {_other(other)}" for other in binding.others]
    batch = "any" if binding.fixed_batch is None else str(binding.fixed_batch)
    takes = {"image": "", "bytes": " as PNG", "example": " as tf.Examples of PNGs"}[binding.role]
    kind = binding.kind or "scores whose kind is found by running it once"
    picture = (
        f"  runs with    {binding.input_name} of {size}{takes}, {binding.channels} in "
        f"{binding.input_layout}"
    )
    return [
        *([picture] if binding.takes_picture else []),
        *others,
        f"  batches      {batch}",
        f"  answers      {binding.output_name}, {'pictures' if kind == 'image' else kind}",
    ]


def _other(other: OtherInput) -> str:
    size = "x".join(map(str, other.shape)) or "one"
    what = {
        "latent": f"{size} random numbers, {other.distribution}",
        "label": f"labels as {other.encoding.replace('_', '-')}",
        "constant": f"the constant {other.value!r}",
    }[other.role]
    return f"{other.name}: {what}"


def _command(path: str, tags: Sequence[str] | None, found: Findings, card_file: str | None) -> str:
    binding = found.binding
    if binding is not None and binding.makes_picture:
        words = ["pixelmill", "generate"]
        if binding.takes_picture:
            words += ["--input", "IMAGES"]
        else:
            words.append("--per_class=100" if binding.labels else "--count=1000")
    else:
        words = ["pixelmill", "segment", "--input", "IMAGES"]
    words += ["--output", "OUT", "--model", path]
    if card_file is not None:
        words += ["--model_card", card_file]
    elif tags:
        words.append(f"--tags={','.join(tags)}")
    flags = [word for flag in found.flags for word in flag.split(" ", 1)]
    return shlex.join([*words, *flags])


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
            "inputs": {other.name: dataclasses.asdict(other) for other in binding.others},
            "output": {
                "name": None if "--output_name" in asked else binding.output_name,
                "kind": binding.kind,
                "range": None
                if "--output_range" in asked or binding.output_range is None
                else "{:g},{:g}".format(*binding.output_range),
            },
        }
    more = {"question": found.question or None, "notes": list(found.notes), "command": command}
    return info | {"card": card} | more


def _write_new(path: str, text: str) -> None:
    try:
        if storage.is_remote(path):
            path = paths.absolute(path)
            if storage.create_once(paths.parent(path), path.rpartition("/")[2], text.encode()):
                return
            raise FileExistsError(path)
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise UserError(f"{path} exists already; a card is not overwritten") from error
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error

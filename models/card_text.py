"""Writes a card to edit: what was found about a model, and lines to fill in for what was not."""

import json
import os
from collections.abc import Collection, Sequence

from models.binding import Binding
from models.signatures import ModelInfo, TensorInfo

_NOTHING_KNOWN = (
    "{}  # nothing is said yet; delete this line when you fill in others",
    "# tags: [serve]",
    "# signature: serving_default",
    "# input: {name: image, role: image, range: '0,1', channels: RGB, layout: NHWC}",
    "# output: {name: logits, kind: logits, layout: NHWC}",
    "# classes: [background, person]",
)


def card_text(
    info: ModelInfo, binding: Binding | None, asked: Collection[str], question: str
) -> str:
    """A card in YAML with comments; what is open stands behind a #.

    Args:
        info: the model.
        binding: how to call it, with guesses; None when even the tensors are unclear.
        asked: flags, such as --value_range, whose values in `binding` are guesses.
        question: what is open, in words.
    """
    head = [
        f"# Card of {_one_line(os.path.basename(info.path))}: what its SavedModel does not say.",
        "# Read by: pixelmill segment --model_card FILE. Lines behind a # are open: take the #",
        "# away and correct them where they matter.",
    ]
    if binding is None:
        head += ["#", *(f"# {_one_line(line)}" for line in question.splitlines())]
        return "\n".join([*head, "", *_NOTHING_KNOWN]) + "\n"
    return "\n".join([*head, "", *_lines(info, binding, asked)]) + "\n"


def _lines(info: ModelInfo, binding: Binding, asked: Collection[str]) -> list[str]:
    def mark(flag: str, is_open: bool = False) -> str:
        return "# " if is_open or flag in asked else ""

    signature = next(s for s in info.signatures if s.name == binding.signature)
    names = ", ".join(_one_line(s.name) for s in info.signatures)
    strings = binding.role != "image"
    low, high = binding.value_range
    lines = [f"tags: {json.dumps(binding.tags)}"] if binding.tags else []
    lines += [
        f"{mark('--signature')}signature: {json.dumps(binding.signature)}  # of {names}",
        "input:",
        f"  {mark('--input_name')}name: {_name(signature.inputs, binding.input_name)}",
        f"  {mark('--input_role')}role: {binding.role}  # image (pixels), bytes or example",
        f'  {mark("--value_range", strings)}range: "{low:g},{high:g}"  '
        "# what 0 and 255 became: 0,1 or -1,1 or 0,255",
        "  # mean: [0]  # subtracted after that, one or by channel",
        "  # std: [1]  # divided by after that",
        f"  channels: {binding.channels}  # RGB, BGR or L (grey)",
        f"  {mark('', strings)}layout: {binding.input_layout}  # NHWC or NCHW",
    ]
    if binding.role == "example":
        lines.append(f"  feature: {json.dumps(binding.feature)}  # that holds the encoded image")
    if binding.size_hw is None or "--image_size" in asked:
        lines += [
            "  # size: [512, 512]  # height, width: stretch pictures to it",
            "  # max_side: 1024  # or only scale larger ones down",
            "  # multiple_of: 32  # sides must be multiples of it: mirror pictures at the edges",
        ]
    return [
        *lines,
        "output:",
        f"  {mark('--output_name')}name: {_name(signature.outputs, binding.output_name)}",
        f"  {mark('', binding.kind is None)}kind: {binding.kind or 'logits'}  "
        "# logits, softmax, sigmoid or class_ids; found by running the model once",
        "  # layout: NHWC  # NHWC or NCHW; found likewise",
        "  # threshold: 0.5  # of one probability a pixel",
        "# classes: [background, person]  # names by id",
        '# colors: ["#000000", "#ff0000"]  # by id',
    ]


def _name(tensors: Sequence[TensorInfo], name: str) -> str:
    tensor = next(tensor for tensor in tensors if tensor.name == name)
    return f"{json.dumps(name)}  # {_one_line(str(tensor))}"


def _one_line(text: str) -> str:
    """Names in a model are a stranger's: no line of theirs may end a comment."""
    return "".join(c if c.isprintable() else "?" for c in text)

"""Writes a card to edit: what was found about a model, and lines to fill in for what was not."""

import json
import os
from collections.abc import Callable, Collection, Sequence

from models.binding import Binding, OtherInput
from models.signatures import ModelInfo, SignatureInfo, TensorInfo

_NOTHING_KNOWN = (
    "{}  # nothing is said yet; delete this line when you fill in others",
    "# tags: [serve]",
    "# signature: serving_default",
    "# input: {name: image, role: image, range: '0,1', channels: RGB, layout: NHWC}",
    "# inputs: {z: {role: latent}, y: {role: label}, truncation: {role: constant, value: 0.5}}",
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
    job = "generate" if binding is not None and binding.makes_picture else "segment"
    head = [
        f"# Card of {_one_line(os.path.basename(info.path))}: what its SavedModel does not say.",
        f"# Read by: pixelmill {job} --model_card FILE. Lines behind a # are open: take the #",
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
    lines = [f"tags: {json.dumps(binding.tags)}"] if binding.tags else []
    lines.append(f"{mark('--signature')}signature: {json.dumps(binding.signature)}  # of {names}")
    if binding.takes_picture:
        lines += _input_lines(signature, binding, mark)
    if binding.others:
        lines.append("inputs:")
        lines += [line for other in binding.others for line in _other_lines(other, mark)]
    lines += [
        "output:",
        f"  {mark('--output_name')}name: {_name(signature.outputs, binding.output_name)}",
    ]
    if binding.makes_picture:
        low, high = binding.output_range or (-1.0, 1.0)
        lines += [
            "  kind: image",
            f'  {mark("--output_range")}range: "{low:g},{high:g}"  # what black and white are',
            "  # layout: NHWC  # NHWC or NCHW; found by running the model once",
            "# classes: [cat, dog]  # names of labels",
        ]
        return lines
    return [
        *lines,
        f"  {mark('', binding.kind is None)}kind: {binding.kind or 'logits'}  "
        "# logits, softmax, sigmoid or class_ids; found by running the model once",
        "  # layout: NHWC  # NHWC or NCHW; found likewise",
        "  # threshold: 0.5  # of one probability a pixel",
        "  # id_offset: -1  # added to ids; negative ones become void",
        "  # void_id: 255  # id that means unlabelled",
        "# classes: [background, person]  # names by id",
        '# colors: ["#000000", "#ff0000"]  # by id',
    ]


def _input_lines(signature: SignatureInfo, binding: Binding, mark: Callable[..., str]) -> list[str]:
    strings = binding.role != "image"
    low, high = binding.value_range
    lines = [
        "input:",
        f"  {mark('--input_name')}name: {_name(signature.inputs, binding.input_name)}",
        f"  {mark('--input_role')}role: {binding.role}  # image (pixels), bytes or example",
        f'  {mark("--value_range", strings)}range: "{low:g},{high:g}"  '
        "# what 0 and 255 became: 0,1 or -1,1 or 0,255",
        "  # mean: [0]  # subtracted after that, one or by channel",
        "  # std: [1]  # divided by after that",
        f"  channels: {binding.channels}  # RGB, BGR, L (grey) or Y (brightness)",
        f"  {mark('', strings)}layout: {binding.input_layout}  # NHWC or NCHW",
    ]
    if binding.role == "example":
        lines.append(f"  feature: {json.dumps(binding.feature)}  # that holds the encoded image")
    if binding.size_hw is None or mark("--image_size"):
        lines += [
            "  # size: [512, 512]  # height, width: stretch pictures to it",
            "  # max_side: 1024  # or only scale larger ones down",
            "  # multiple_of: 32  # sides must be multiples of it: mirror pictures at the edges",
        ]
    else:
        lines.append("  # fit: letterbox  # stretch (default), letterbox, pad or crop")
    return lines


def _other_lines(other: OtherInput, mark: Callable[..., str]) -> list[str]:
    name = json.dumps(other.name)
    field = f"--set inputs.{other.name}"
    lines = [f"  {name}:", f"    {mark(f'{field}.role')}role: {other.role}"]
    if other.role == "latent":
        lines.append(
            f"    distribution: {other.distribution}  # normal, truncated_normal, uniform, sphere"
        )
        lines.append(f"    {mark(f'{field}.size')}size: {json.dumps(list(other.shape))}")
    elif other.role == "label":
        lines.append(f"    encoding: {other.encoding}  # id or one_hot")
        lines.append(f"    {mark(f'{field}.classes')}classes: {other.labels}")
    else:
        lines.append(f"    {mark(f'{field}.value')}value: {json.dumps(other.value)}")
    return lines


def _name(tensors: Sequence[TensorInfo], name: str) -> str:
    tensor = next(tensor for tensor in tensors if tensor.name == name)
    return f"{json.dumps(name)}  # {_one_line(str(tensor))}"


def _one_line(text: str) -> str:
    """Names in a model are a stranger's: no line of theirs may end a comment."""
    return "".join(c if c.isprintable() else "?" for c in text)

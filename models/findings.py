"""What a SavedModel looks like to someone who has no card: what to run it as, and what to ask.

Only the graph's description is read: nothing is executed and no variable is loaded.
"""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import yaml

from models.binding import Binding
from models.card import load_card, own_card
from models.errors import ModelError
from models.rules import bind
from models.signatures import ModelInfo, TensorInfo, read_model

_RANGE_QUESTION = """\
It takes floats. How were the pixels scaled in training? To [0, 1], to [-1, 1], or not at all
(0 to 255, the model scales by itself)? Say so by --value_range:"""
_OUTPUT_RANGE_QUESTION = """\
It makes pictures of floats. Which of its numbers mean black and white: -1 and 1 (tanh), 0 and 1
(sigmoid), or 0 and 255? Say so by --output_range (a wrong one is refused, with a proposal):"""
_CHANNELS_NOTE = """\
How many channels it takes, the model does not say: RGB is assumed. If it takes one, give
--channels=L (grey) or --channels=Y (brightness; a picture that is made gets its colours back)."""
_ROLE_QUESTION = """\
It takes strings. Are they encoded images (bytes) or tf.Examples that hold one (example)?
Say so by --input_role:"""


_Choice = tuple[str, str, list[str], str]  # flag, field of the card, guesses, question


@dataclasses.dataclass(frozen=True)
class Findings:
    """What was found out about a model.

    Attributes:
        info: what is in its files.
        binding: how to call it, as far as can be said; None when even the tensors are unclear.
        question: what a person must say, "" when nothing is open.
        flags: that answer the question, with a guess.
        notes: what else a person may have to say.
        otherwise: how to run a model whose output may be scores, but pictures as well.
    """

    info: ModelInfo
    binding: Binding | None
    question: str = ""
    flags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    otherwise: "Findings | None" = None

    @property
    def asked(self) -> frozenset[str]:
        """Names of the flags that answer the question."""
        return frozenset(flag.partition("=")[0] for flag in self.flags)


def examine(path: str, tags: Sequence[str] | None = None) -> Findings:
    """Reads a model and binds it without a card, guessing where only a person can know."""
    try:
        info = read_model(os.path.abspath(os.path.expanduser(path)), tags)
    except (OSError, ValueError) as error:
        raise ModelError(str(error)) from error
    return _find(info, {"tags": list(tags) if tags else None})


def _find(info: ModelInfo, card: dict[str, Any]) -> Findings:
    """Binds a model as what it looks like: a segmenter, or one that makes pictures."""
    segmenter = _answered(info, card)
    if segmenter.binding is not None and load_card(own_card(info.path), card).output.kind:
        return segmenter  # the model's own card says what it is
    makes = card | {"output.kind": "image"}
    generator = _answered(info, makes)
    if generator.binding is None or (
        segmenter.binding is not None and not _enlarges(info, segmenter)
    ):
        found = segmenter
    else:
        found = generator
    if (binding := found.binding) is None:
        return _by_another_signature(info, card, found)
    open_channels = binding.takes_picture and _open_channels(info, binding)
    notes = (_CHANNELS_NOTE,) if open_channels else ()
    otherwise = None
    if found is segmenter and generator.binding and _could_be_picture(info, binding):
        if open_channels and 1 in _channel_axes(info, binding):
            generator = _answered(info, makes | {"input.channels": "Y"})
            more = ("--channels=Y", *generator.flags)
            generator = dataclasses.replace(generator, flags=more)
        otherwise = generator
    return dataclasses.replace(found, notes=notes, otherwise=otherwise)


def _by_another_signature(info: ModelInfo, card: dict[str, Any], found: Findings) -> Findings:
    """A model whose usual signature cannot be run: an encoder's, beside that of its decoder."""
    if "signature" in card:
        return found
    for signature in info.signatures:
        other = _find(info, card | {"signature": signature.name})
        if other.binding is not None:
            name = signature.name
            question = f"{found.question}\n\nSignature {name!r} can be run. {other.question}"
            flags = (f"--signature={name}", *other.flags)
            return dataclasses.replace(other, question=question, flags=flags, otherwise=None)
    return found


def _answered(info: ModelInfo, card: dict[str, Any]) -> Findings:
    """Binds a model, guessing one by one what only a person can know."""
    try:
        binding = bind(info, load_card(own_card(info.path), card))
    except ModelError as error:
        message = str(error)
    else:
        if binding.makes_picture and binding.output_range is None:
            return Findings(info, binding, _OUTPUT_RANGE_QUESTION, ("--output_range=-1,1",))
        return Findings(info, binding)
    outputs = {
        tensor.name
        for signature in info.signatures
        for tensor in signature.outputs
        # a table of numbers is rather no picture; who knows better can say so
        if card.get("output.kind") != "image" or tensor.shape is None or len(tensor.shape) == 4
    }
    inputs = {tensor.name for signature in info.signatures for tensor in signature.inputs}
    masks = sorted(outputs, key=lambda name: (*_unlike_masks(info, name), name))
    choices: list[_Choice] = [
        ("--value_range", "input.range", ["0,1"], _RANGE_QUESTION),
        ("--input_role", "input.role", ["bytes"], _ROLE_QUESTION),
        ("--signature", "signature", [s.name for s in info.signatures], message),
        ("--input_name", "input.name", sorted(inputs), message),
        ("--output_name", "output.name", masks, message),
        ("--image_size", "input.size", ["512x512"], message),
    ]
    for name in sorted(inputs):
        for field, guesses in _other_guesses(info, name, card).items():
            dotted = f"inputs.{name}.{field}"
            choices.append((f"--set {dotted}", dotted, guesses, message))
    for choice in choices:
        if choice[0] not in message or card.get(choice[1]):
            continue
        found = _guessed(info, card, choice)
        if found is not None:
            return found
    return Findings(info, None, message)


def _guessed(info: ModelInfo, card: dict[str, Any], choice: _Choice) -> Findings | None:
    """What a model looks like by the first guess that fits; of signatures, by the one that leaves
    the fewest questions."""
    flag, field, guesses, question = choice
    best: Findings | None = None
    for guess in guesses:
        found = _answered(info, card | {field: _said(flag, guess)})
        if found.binding is not None and (best is None or len(found.flags) + 1 < len(best.flags)):
            questions = "\n\n".join(filter(None, [question, found.question]))
            best = Findings(info, found.binding, questions, (f"{flag}={guess}", *found.flags))
            if flag != "--signature":
                break
    return best


def _unlike_masks(info: ModelInfo, name: str) -> tuple[bool, bool, int]:
    """Sorts outputs, the one first that is most likely a map of classes: of the size of a picture
    that goes in, not of a picture's channels, of many classes."""
    signature = next(s for s in info.signatures if name in [t.name for t in s.outputs])
    shape = next(t.shape for t in signature.outputs if t.name == name)
    pictures = [t.shape for t in signature.inputs if t.shape and len(t.shape) == 4]
    if shape is None or len(shape) not in (3, 4) or not pictures:
        return True, True, 0
    sides = {picture[axis : axis + 2] for picture in pictures for axis in (1, 2)}
    last, first = shape[1:3], shape[-2:]  # where the height and the width may be
    classes = 1
    if len(shape) == 4:
        classes = (shape[3] if last in sides else shape[1]) or 0
    return not {last, first} & sides, classes == 3, -classes


def _other_guesses(info: ModelInfo, name: str, card: dict[str, Any]) -> dict[str, list[str]]:
    """What may be said of an input that takes no picture. Of two that take floats, the shorter one
    is rather a label."""
    sizes = {
        tensor.name: tensor.shape[1] or 0
        for signature in info.signatures
        for tensor in signature.inputs
        if tensor.shape and len(tensor.shape) == 2
    }
    roles = ["latent", "label", "constant"]
    if sizes.get(name, 0) < max(sizes.values(), default=0):
        roles = ["label", "latent", "constant"]
    return {"classes": ["10"], "size": ["[128]"], "role": roles, "value": ["1.0", "1", "text"]}


def _said(flag: str, guess: str) -> Any:
    if flag == "--image_size":
        return [int(side) for side in guess.split("x")]
    return yaml.safe_load(guess) if flag.startswith("--set") else guess


def _tensor(info: ModelInfo, binding: Binding, name: str) -> TensorInfo:
    signature = next(s for s in info.signatures if s.name == binding.signature)
    return next(t for t in (*signature.inputs, *signature.outputs) if t.name == name)


def _open_channels(info: ModelInfo, binding: Binding) -> bool:
    if binding.role != "image":
        return False
    shape = _tensor(info, binding, binding.input_name).shape
    return shape is None or shape[3 if binding.input_layout == "NHWC" else 1] is None


def _channel_axes(info: ModelInfo, binding: Binding) -> tuple[int | None, ...]:
    """Sizes of the two axes of the output that may be its channels; () when they are open."""
    shape = _tensor(info, binding, binding.output_name).shape
    return (shape[1], shape[3]) if shape is not None and len(shape) == 4 else ()


def _could_be_picture(info: ModelInfo, binding: Binding) -> bool:
    """Whether the scores could be the colours of a picture: three of them, or one of one."""
    output = _tensor(info, binding, binding.output_name)
    if output.dtype.startswith(("int", "bool")):
        return False
    sizes = _channel_axes(info, binding)
    one_of_one = 1 in sizes and (binding.channels == "L" or _open_channels(info, binding))
    return output.shape is None or 3 in sizes or one_of_one


def _enlarges(info: ModelInfo, found: Findings) -> bool:
    """Whether the shapes say that the answer is larger than the picture: no segmenter does so."""
    binding = found.binding
    if binding is None or binding.size_hw is None:
        return False
    shape = _tensor(info, binding, binding.output_name).shape or ()
    sides = [size for size in shape[1:] if size is not None and size > 4]
    return len(sides) == 2 and all(
        side > fixed for side, fixed in zip(sides, binding.size_hw, strict=True)
    )

"""Rules for inputs that take no picture: noise, labels, and constants such as a truncation.

Told by name, dtype and shape where these are plain; else the card must say. What is asked for can
be given as a flag: --set inputs.NAME.role=latent.
"""

import math
import re
from collections.abc import Sequence

from models.binding import OtherInput
from models.card import Encoding, ModelCard, OtherInputCard, OtherRole
from models.errors import ModelError
from models.signatures import ModelInfo, SignatureInfo, TensorInfo

_FLOATS = ("float32", "float16", "bfloat16", "float64")
_INTEGERS = ("uint8", "int32", "int64", "uint16", "int16", "int8")
_LATENT_NAMES = {"z", "noise", "latent", "latents", "seed", "w"}
_LABEL_NAMES = {"label", "labels", "class", "classes", "y", "c", "condition", "cond", "category"}


def bind_others(
    info: ModelInfo, signature: SignatureInfo, image: TensorInfo | None, card: ModelCard
) -> tuple[OtherInput, ...]:
    """Binds all inputs but the picture's, sorted by name.

    Raises:
        ModelError: what an input takes cannot be told, or the card contradicts the signature.
    """
    rest = [t for t in signature.inputs if image is None or t.name != image.name]
    names = [tensor.name for tensor in rest]
    if unknown := sorted(set(card.inputs) - set(names)):
        raise ModelError(
            f"{info.path}: signature {signature.name!r} has no input {unknown[0]!r} that takes no "
            f"picture; correct inputs in the card. It offers\n  {signature}"
        )
    roles = {t.name: _role(t, card.inputs.get(t.name, OtherInputCard())) for t in rest}
    if image is not None and (varying := [t for t in rest if roles[t.name] != "constant"]):
        wants = ", ".join(map(str, varying))
        values = " ".join(f"--set inputs.{t.name}.value={_value_word(t)}" for t in varying)
        raise ModelError(
            f"{info.path}: signature {signature.name!r} also wants {wants}; besides pictures, a "
            f"model can be given constants only. Give {values}, or export a signature without"
        )
    undecided = [t for t in rest if roles[t.name] is None]
    no_latent = "latent" not in roles.values()
    if len(undecided) == 1 and no_latent and _may_be_latent(undecided[0]):
        roles[undecided[0].name] = "latent"  # a generator makes its pictures of something
        undecided = []
    if undecided:
        name = undecided[0].name
        raise ModelError(
            f"{info.path}: signature {signature.name!r} also wants {undecided[0]}, and does not "
            f"say of what. Give --set inputs.{name}.role=latent (random numbers), =label or "
            f"=constant, the last with --set inputs.{name}.value={_value_word(undecided[0])}"
        )
    return tuple(
        _bound(t, roles[t.name] or "constant", card.inputs.get(t.name, OtherInputCard()), card)
        for t in rest
    )


def _role(tensor: TensorInfo, given: OtherInputCard) -> OtherRole | None:
    """What an input takes, None when neither the card nor the signature tells."""
    if given.role is not None:
        return given.role
    if given.value is not None or _usual_value(tensor) is not None:
        return "constant"
    shape = tensor.shape
    words = set(re.split(r"[^a-z]+", tensor.name.lower()))
    if shape == ():
        return None
    if words & _LABEL_NAMES and (tensor.dtype in _INTEGERS or tensor.dtype in _FLOATS):
        return "label"
    if tensor.dtype in _INTEGERS and shape is not None and _item_size(shape[1:]) == 1:
        return "label"
    if words & _LATENT_NAMES and _may_be_latent(tensor):
        return "latent"
    return None


def _usual_value(tensor: TensorInfo) -> bool | str | None:
    """Of a constant that needs no asking: not training, and no key to be echoed."""
    if tensor.dtype == "bool" and tensor.shape == () and "train" in tensor.name.lower():
        return False
    return "" if tensor.dtype == "string" and tensor.name.lower() in ("key", "keys") else None


def _value_word(tensor: TensorInfo) -> str:
    return "TEXT" if tensor.dtype == "string" else "NUMBER"


def _may_be_latent(tensor: TensorInfo) -> bool:
    return tensor.dtype in _FLOATS and tensor.shape != ()


def _bound(
    tensor: TensorInfo, role: OtherRole, given: OtherInputCard, card: ModelCard
) -> OtherInput:
    batched = tensor.shape is None or len(tensor.shape) > 0
    if role == "constant":
        value = _usual_value(tensor) if given.value is None else given.value
        if value is None:
            raise ModelError(
                f"input {tensor} is a constant; give its value: "
                f"--set inputs.{tensor.name}.value={_value_word(tensor)}"
            )
        shape = _constant_shape(tensor, value)
        return OtherInput(tensor.name, tensor.dtype, shape, batched, role, value=_as_tuple(value))
    if not batched:
        raise ModelError(f"input {tensor} takes one number, which is no {role}; make it a constant")
    if role == "latent":
        if not _may_be_latent(tensor):
            raise ModelError(f"input {tensor} takes no floats, which random numbers are")
        shape = _latent_shape(tensor, given)
        return OtherInput(
            tensor.name, tensor.dtype, shape, True, role, distribution=given.distribution
        )
    shape, encoding, labels = _label(tensor, given, card)
    return OtherInput(
        tensor.name, tensor.dtype, shape, True, role, encoding=encoding, labels=labels
    )


def _latent_shape(tensor: TensorInfo, given: OtherInputCard) -> tuple[int, ...]:
    known = None if tensor.shape is None else tensor.shape[1:]
    asked = tuple(given.size) if given.size else None
    if asked is None:
        if known is None or None in known:
            raise ModelError(
                f"input {tensor} takes random numbers, and the signature does not say how many; "
                f"give --set inputs.{tensor.name}.size=[128], with the right number"
            )
        return tuple(size for size in known if size is not None)
    if known is not None and (
        len(known) != len(asked)
        or any(k not in (None, a) for k, a in zip(known, asked, strict=True))
    ):
        raise ModelError(
            f"input {tensor} does not take items of the size {list(asked)}; leave "
            f"inputs.{tensor.name}.size out or correct it"
        )
    return asked


def _label(
    tensor: TensorInfo, given: OtherInputCard, card: ModelCard
) -> tuple[tuple[int, ...], Encoding, int]:
    """Shape of one label, its encoding, and how many labels there are."""
    item = (None,) if tensor.shape is None else tensor.shape[1:]
    wide = len(item) == 1 and item[0] != 1 and tensor.dtype in _FLOATS
    encoding: Encoding = given.encoding or ("one_hot" if wide else "id")
    counts = {
        "its shape": item[0] if encoding == "one_hot" and len(item) == 1 else None,
        f"inputs.{tensor.name}.classes": given.classes,
        "the names of classes": len(card.classes) if card.classes else None,
    }
    said = {where: count for where, count in counts.items() if count is not None}
    if not said:
        raise ModelError(
            f"input {tensor} takes labels, and the signature does not say how many there are; "
            f"give --classes=NAME,NAME,... or --set inputs.{tensor.name}.classes=NUMBER"
        )
    if len(set(said.values())) > 1:
        counted = ", ".join(f"{count} by {where}" for where, count in said.items())
        raise ModelError(f"input {tensor} takes labels: {counted}; make them agree")
    labels = next(iter(said.values()))
    if encoding == "one_hot":
        if len(item) != 1:
            raise ModelError(f"input {tensor} cannot take one-hot labels; give encoding: id")
        return (labels,), encoding, labels
    if _item_size(item) not in (1, None):
        raise ModelError(f"input {tensor} takes no single id; give encoding: one_hot")
    return tuple(size or 1 for size in item), encoding, labels


def _constant_shape(tensor: TensorInfo, value: object) -> tuple[int, ...]:
    """The shape of one item, which numbers must have; one number stands for all of them."""
    item = () if tensor.shape is None else tensor.shape[1:]
    if _holds_text(value) != (tensor.dtype == "string"):
        raise ModelError(
            f"input {tensor} does not take {value!r}; give --set inputs.{tensor.name}.value="
            f"{_value_word(tensor)}"
        )
    if not isinstance(value, list):
        if None in item:
            raise ModelError(f"input {tensor} is of open size; give all its numbers as a list")
        return tuple(size for size in item if size is not None)
    found = _shape_of(value)
    if found is None or len(found) != len(item):
        raise ModelError(f"input {tensor} does not take {value}; give one number, or its shape's")
    if any(want not in (None, got) for want, got in zip(item, found, strict=True)):
        raise ModelError(f"input {tensor} takes items of {list(item)}, the value has {list(found)}")
    return found


def _shape_of(value: object) -> tuple[int, ...] | None:
    """Shape of nested lists of numbers; None when they are ragged or hold something else."""
    if not isinstance(value, list):
        return () if isinstance(value, (bool, int, float, str)) else None
    shapes = {_shape_of(part) for part in value}
    if len(shapes) != 1 or (inner := shapes.pop()) is None:
        return None
    return len(value), *inner


def _holds_text(value: object) -> bool:
    if isinstance(value, list):
        return any(map(_holds_text, value))
    return isinstance(value, str)


def _as_tuple(value: object) -> object:
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


def _item_size(item: Sequence[int | None]) -> int | None:
    """Numbers of one item; None when a side is open."""
    sizes = [size for size in item if size is not None]
    return None if len(sizes) < len(item) else math.prod(sizes)

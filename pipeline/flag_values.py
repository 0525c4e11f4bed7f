"""Values of flags: what a person may write, and what it is read as."""

import argparse
import re
from typing import Any

import yaml

from transforms.failures import REASONS

# models.networks.augment.OPS, whose module imports TensorFlow: too slow for --help
AUGMENTATIONS = ("flip", "turn", "scale", "shift", "colour")

VIEWS = ("flips", "turns", "scales")


def join_negative_values(arguments: list[str]) -> list[str]:
    """Lets `--value_range -1,1` be written with a space: argparse takes -1,1 for a flag."""
    joined: list[str] = []
    for argument in arguments:
        follows_flag = joined and re.fullmatch(r"--(value_range|output_range|mean|std)", joined[-1])
        if follows_flag and re.match(r"-[\d.]", argument):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def positive(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return int(text)


def positive_or_auto(text: str) -> int | str:
    """A whole number above 0, or "auto"."""
    return text if text == "auto" else positive(text)


def fraction(text: str) -> float:
    """A number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got {text!r}")
    return value


def positive_number(text: str) -> float:
    """A number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def seed_31(text: str) -> int:
    """A whole number from 0 to 2**31 - 1, which all random generators take."""
    if not text.isdecimal() or int(text) >= 1 << 31:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 2147483647, got {text!r}")
    return int(text)


def whole(text: str) -> int:
    """A whole number, 0 or more."""
    if not text.isdecimal() or int(text) >= 1 << 63:
        raise argparse.ArgumentTypeError(f"expected a whole number, 0 or more, got {text!r}")
    return int(text)


def seconds(text: str) -> float:
    """A number of seconds, 0 or more."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e6:
        raise argparse.ArgumentTypeError(f"expected seconds, 0 or more, got {text!r}")
    return value


def near_bits(text: str) -> int:
    """Bits of perceptual hashes, 0 to 7."""
    if not text.isdecimal() or int(text) > 7:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number from 0 to 7")
    return int(text)


def percent(text: str) -> int:
    """A whole number from 1 to 100."""
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to 100, got {text!r}")
    return int(text)


def field_value(text: str) -> tuple[str, Any]:
    """FIELD=VALUE, the value as YAML reads it."""
    name, _, value = text.partition("=")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        parsed = None
    if not name or parsed is None:
        raise argparse.ArgumentTypeError(f"expected FIELD=VALUE like input.fit=pad, got {text!r}")
    return name, parsed


def numbers(text: str) -> list[float]:
    """Numbers joined by commas."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected numbers like 0.5,0.5,0.5, got {text!r}"
        ) from None


def number_pair(text: str) -> str:
    """Two numbers joined by a comma, as they were written."""
    if len(numbers(text)) != 2:
        raise argparse.ArgumentTypeError(f"expected LOW,HIGH like 0,1 or -1,1, got {text!r}")
    return text


def words(text: str) -> list[str]:
    """Words joined by commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def augmentations(text: str) -> tuple[str, ...]:
    """Names of augmentations joined by commas, or "none"."""
    names = () if text == "none" else tuple(words(text))
    if unknown := [name for name in names if name not in AUGMENTATIONS]:
        raise argparse.ArgumentTypeError(
            f"{unknown[0]!r} is none of {', '.join(AUGMENTATIONS)}; or give none alone"
        )
    return names


def size(text: str) -> tuple[int, int]:
    """HEIGHTxWIDTH in pixels."""
    match = re.fullmatch(r"(\d+)[xX](\d+)", text)
    if match is None or int(match[1]) < 1 or int(match[2]) < 1:
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH like 512x512, got {text!r}")
    return int(match[1]), int(match[2])


def tile(text: str) -> tuple[int, int]:
    """One side of a square in pixels, or HEIGHTxWIDTH."""
    try:
        return size(f"{text}x{text}" if text.isdecimal() else text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(
            f"expected a side like 512, or HEIGHTxWIDTH like 512x256, got {text!r}"
        ) from error


def overlap(text: str) -> int | str:
    """Pixels, 0 or more, or "auto"."""
    return text if text == "auto" else whole(text)


def views(text: str) -> tuple[str, ...]:
    """Kinds of views joined by plus signs."""
    names = tuple(part.strip() for part in text.split("+"))
    if unknown := [name for name in names if name not in VIEWS]:
        raise argparse.ArgumentTypeError(
            f"{unknown[0]!r} is none of {', '.join(VIEWS)}; several are joined by +"
        )
    return names


def reasons(text: str) -> frozenset[str]:
    """Reasons of failures, "all" for all of them. Raises ArgumentTypeError."""
    if text == "all":
        return frozenset(REASONS)
    found = frozenset(part.strip() for part in text.split(","))
    if not found <= REASONS.keys():
        unknown = ", ".join(sorted(found - REASONS.keys()))
        raise argparse.ArgumentTypeError(f"{unknown} is no reason; they are {', '.join(REASONS)}")
    return found

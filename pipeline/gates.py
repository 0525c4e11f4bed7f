"""Gates: `--fail_if 'miou < 0.6 or records.failed > 10'`, a condition on metrics.json.

    condition   = and_part {"or" and_part}
    and_part    = comparison {"and" comparison}
    comparison  = "(" condition ")" | operand ("<" | "<=" | ">" | ">=" | "==" | "!=") operand
    operand     = number | name

A name is a path into metrics.json with dots between its parts: `records.failed`, `metrics.miou`.
What stands below "metrics" needs no "metrics." before it. A row of a list is named by its `name`
or `id`: `classes.road.iou`. A part with other characters than letters, digits, "_" and "-" stands
in double quotes: `classes."traffic sign".iou`. Nothing is evaluated but this.
"""

import dataclasses
import difflib
import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from models.errors import UserError

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_TOKENS = re.compile(
    r"\s*(?:(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.]))"
    r'|(?P<name>(?:[^\W\d][\w-]*)(?:\.(?:[\w-]+|"[^"]*"))*)'
    r"|(?P<compare><=|>=|==|!=|<|>)|(?P<bracket>[()]))"
)
_MOST_TOKENS = 1000  # of one gate; brackets nest, and so does the reading of them
_SHOWN_NAMES = 5
_NO_NAMES = ("sums", "highlights", "clock")  # of metrics.json, that nobody would ask for by chance


class GateError(UserError):
    """A gate cannot be read, or names what metrics.json does not have."""


@dataclasses.dataclass(frozen=True)
class Name:
    """A path into metrics.json."""

    parts: tuple[str, ...]

    @property
    def text(self) -> str:
        return ".".join(self.parts)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One comparison of two operands."""

    left: Name | float
    compare: str
    right: Name | float


@dataclasses.dataclass(frozen=True)
class Condition:
    """Conditions joined by "and" or by "or"."""

    joint: str
    parts: tuple["Condition | Comparison", ...]


@dataclasses.dataclass(frozen=True)
class Gate:
    """A condition under which a run has failed, as it was written and as it was understood."""

    text: str
    condition: Condition | Comparison

    @property
    def names(self) -> tuple[str, ...]:
        """The names in it, in order."""
        return tuple(name.text for name in _names(self.condition))

    def failed(self, metrics: Mapping[str, Any]) -> bool:
        """Whether the condition holds, or cannot be denied.

        A comparison with a value that is there without being a number (null, NaN) counts as true:
        what was not measured passes no gate.

        Args:
            metrics: the content of metrics.json.

        Raises:
            GateError: a name is not in it, or stands for something that no number is.
        """
        for name in _names(self.condition):  # all are looked up, whatever the first one decides
            _value(metrics, name, self.text)
        return _holds(self.condition, metrics, self.text)

    def values(self, metrics: Mapping[str, Any]) -> dict[str, float]:
        """What the names stand for, to be shown beside the verdict. Raises GateError."""
        return {name.text: _value(metrics, name, self.text) for name in _names(self.condition)}


def parse_gate(text: str) -> Gate:
    """Reads a gate. Raises GateError that shows where it cannot be understood."""
    reader = _Reader(text)
    condition = reader.condition()
    if reader.kind:
        raise reader.error("the end, or `and`, or `or`")
    return Gate(text.strip(), condition)


class _Reader:
    """Reads tokens one by one, by recursive descent."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(_tokens(text))
        if len(self._tokens) > _MOST_TOKENS:
            raise GateError(f"--fail_if has over {_MOST_TOKENS} words; give several")
        self._at = 0

    @property
    def kind(self) -> str:
        return self._tokens[self._at][0]

    @property
    def _word(self) -> str:
        return self._tokens[self._at][1]

    def _take(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1][1]

    def condition(self) -> Condition | Comparison:
        return self._joined("or", lambda: self._joined("and", self._comparison))

    def _joined(
        self, joint: str, part: Callable[[], Condition | Comparison]
    ) -> Condition | Comparison:
        parts = [part()]
        while self.kind == "joint" and self._word == joint:
            self._take()
            parts.append(part())
        return parts[0] if len(parts) == 1 else Condition(joint, tuple(parts))

    def _comparison(self) -> Condition | Comparison:
        if self._word == "(":
            self._take()
            inner = self.condition()
            if self._word != ")":
                raise self.error("`)`")
            self._take()
            return inner
        left = self._operand()
        if self.kind != "compare":
            raise self.error("one of < <= > >= == !=")
        return Comparison(left, self._take(), self._operand())

    def _operand(self) -> Name | float:
        if self.kind == "number":
            return float(self._take())
        if self.kind == "name":
            parts = re.findall(r'"([^"]*)"|([\w-]+)', self._take())
            return Name(tuple(quoted or plain for quoted, plain in parts))
        raise self.error("a name or a number")

    def error(self, expected: str) -> GateError:
        got = f"`{self._word}`" if self.kind else "its end"
        at = self._tokens[self._at][2]
        return GateError(
            f"--fail_if={self._text!r}: got {got} at character {at + 1}, expected {expected}; "
            "write it like 'miou < 0.6 or records.failed > 10'"
        )


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    """(kind, text, position) of each token, and one of kind "" at the end."""
    at = 0
    while text[at:].strip():
        found = _TOKENS.match(text, at)
        if found is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            raise GateError(
                f"--fail_if={text!r}: cannot read {text[at : at + 12]!r} at character {at + 1}; "
                "expected names, numbers, < <= > >= == !=, and, or, brackets"
            )
        kind = str(found.lastgroup)
        word = found.group(kind)
        yield ("joint" if word in ("and", "or") else kind), word, found.start(kind)
        at = found.end()
    yield "", "", len(text)


def _names(condition: Condition | Comparison) -> Iterator[Name]:
    if isinstance(condition, Condition):
        for part in condition.parts:
            yield from _names(part)
        return
    for operand in (condition.left, condition.right):
        if isinstance(operand, Name):
            yield operand


def _holds(condition: Condition | Comparison, metrics: Mapping[str, Any], text: str) -> bool:
    if isinstance(condition, Condition):
        join = all if condition.joint == "and" else any
        return join(_holds(part, metrics, text) for part in condition.parts)
    left, right = (
        _value(metrics, operand, text) if isinstance(operand, Name) else operand
        for operand in (condition.left, condition.right)
    )
    if math.isnan(left) or math.isnan(right):
        return True
    return _COMPARE[condition.compare](left, right)


def _value(metrics: Mapping[str, Any], name: Name, text: str) -> float:
    """The number that a name stands for; NaN where it was not measured."""
    for root in (metrics.get("metrics"), metrics):
        found, value = _look_up(root, name.parts)
        if not found:
            continue
        if value is None:
            return math.nan
        if isinstance(value, int | float):
            return float(value)
        what = "a list" if isinstance(value, Sequence) else "a group"
        what = f"the text {value!r}" if isinstance(value, str) else what
        inside = [f"{name.text}.{path}" for path, _ in _leaves(value)][:_SHOWN_NAMES]
        hint = f"; in it are {', '.join(inside)}" if inside else ""
        raise GateError(f"--fail_if={text!r}: {name.text} is {what}, expected a number{hint}")
    raise GateError(_unknown(metrics, name, text))


def _look_up(value: Any, parts: Sequence[str]) -> tuple[bool, Any]:
    """Whether there is such a path, and what it leads to."""
    if not parts:
        return True, value
    if isinstance(value, Mapping):
        for length in range(len(parts), 0, -1):  # names with dots in them, such as quantiles' 0.95
            if (key := ".".join(parts[:length])) in value:
                return _look_up(value[key], parts[length:])
    elif isinstance(value, list | tuple):
        for row in value:
            if isinstance(row, Mapping) and parts[0] in (row.get("name"), str(row.get("id"))):
                return _look_up(row, parts[1:])
    return False, None


def _leaves(value: Any) -> Iterator[tuple[str, Any]]:
    """(path, number or None) of all that a gate can name below a value."""
    pairs: list[tuple[str, Any]] = []
    if isinstance(value, Mapping):
        pairs = [(str(name), inner) for name, inner in value.items()]
    elif isinstance(value, list | tuple):
        rows = [row for row in value if isinstance(row, Mapping) and ("name" in row or "id" in row)]
        pairs = [(str(row.get("name", row.get("id"))), row) for row in rows]
    for name, inner in pairs:
        part = name if re.fullmatch(r"[\w.-]+", name) else f'"{name}"'
        if inner is None or isinstance(inner, int | float):
            yield part, inner
        else:
            yield from ((f"{part}.{path}", leaf) for path, leaf in _leaves(inner))


def _unknown(metrics: Mapping[str, Any], name: Name, text: str) -> str:
    rest = {key: v for key, v in metrics.items() if key != "metrics" and key not in _NO_NAMES}
    known = [path for path, _ in (*_leaves(metrics.get("metrics")), *_leaves(rest))]
    near = difflib.get_close_matches(name.text, known, _SHOWN_NAMES, 0.5)
    last = name.parts[-1]
    near += [path for path in known if path.split(".")[-1] == last and path not in near]
    shown = ", ".join((near or known)[:_SHOWN_NAMES])
    hint = f"did you mean {shown}?" if near else f"there are {shown or 'none'}"
    return f"--fail_if={text!r}: metrics.json has no {name.text}; {hint}"

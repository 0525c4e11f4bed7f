"""Names of records by a condition on the tables that a run writes, OUT/records/*.parquet."""

import io
import os
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from transforms import paths, storage
from transforms.listing import InputError
from transforms.sink import RECORDS

_OPERATORS: dict[str, Callable[..., Any]] = {
    "<=": pc.less_equal,
    ">=": pc.greater_equal,
    "!=": pc.not_equal,
    "==": pc.equal,
    "=": pc.equal,
    "<": pc.less,
    ">": pc.greater,
}
_CONDITION = re.compile(r"\s*([\w.]+)\s*(<=|>=|!=|==|=|<|>)\s*(.*?)\s*", re.DOTALL)


class Condition(NamedTuple):
    """`column` compared with `value` by a key of _OPERATORS."""

    column: str
    operator: str
    value: str


def parse_conditions(text: str) -> tuple[Condition, ...]:
    """Conditions joined by "and": "status = ok and width >= 64".

    Raises:
        ValueError: it is none.
    """
    found = []
    for part in re.split(r"\s+and\s+", text.strip()):
        match = _CONDITION.fullmatch(part)
        if match is None or not match[3]:
            raise ValueError(
                f"{part!r} is no condition; expected COLUMN = VALUE (or != < <= > >=), several "
                "joined by and"
            )
        found.append(Condition(*match.groups()))
    return tuple(found)


def keys_where(place: str, conditions: tuple[Condition, ...] | None) -> Iterator[str]:
    """Names of the records that meet all conditions, one table after the other.

    Args:
        place: a run, a folder of Parquet files, one of them, or a text file of a name a line.
        conditions: None for those with the status "ok", where there is a column for it.

    Raises:
        InputError: there is nothing of that kind, or a table lacks a column.
    """
    path = paths.absolute(place)
    try:
        if storage.is_file(path) and not path.endswith(".parquet"):
            if conditions:
                raise InputError(f"{place} is a list of names, without columns; leave out --where")
            yield from storage.read_bytes(path).decode("utf-8", "surrogateescape").splitlines()
            return
        for file in _tables(path, place):
            yield from _keys(file, conditions)
    except OSError as error:
        raise InputError(f"cannot read {error.filename or place}: {error.strerror}") from error


def _tables(path: str, place: str) -> list[str]:
    if storage.is_file(path):
        return [path]
    for folder in (os.path.join(path, RECORDS), path):
        if storage.is_folder(folder):
            names = sorted(name for name, _ in storage.list_files(folder))
            if found := [f"{folder}/{name}" for name in names if name.endswith(".parquet")]:
                return found
    raise InputError(
        f"--records={place}: expected a run, Parquet files, or a text file of a name a line"
    )


def _keys(path: str, conditions: tuple[Condition, ...] | None) -> Iterator[str]:
    try:
        file = pq.ParquetFile(io.BytesIO(storage.read_bytes(path)))
        if conditions is None:
            is_told = "status" in file.schema_arrow.names
            conditions = (Condition("status", "=", "ok"),) if is_told else ()
        wanted = ["key", *(condition.column for condition in conditions)]
        if missing := [name for name in wanted if name not in file.schema_arrow.names]:
            raise InputError(
                f"{path} has no column {missing[0]!r}, but {', '.join(file.schema_arrow.names)}"
            )
        for batch in file.iter_batches(columns=sorted(set(wanted))):
            table = pa.Table.from_batches([batch])
            for condition in conditions:
                table = table.filter(_meets(table[condition.column], condition, path))
            yield from table["key"].to_pylist()
    except pa.ArrowException as error:
        raise InputError(f"{path}: {error}") from error


def _meets(column: Any, condition: Condition, path: str) -> Any:
    """Boolean; a value that is missing meets nothing."""
    kind = column.type
    value: bool | float | str
    try:
        if pa.types.is_boolean(kind):
            value = {"true": True, "false": False}[condition.value.lower()]
        elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
            value, column = float(condition.value), column.cast(pa.float64())
        elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
            value = condition.value.strip("'\"")
        else:
            raise ValueError(kind)
    except (ValueError, KeyError) as error:
        raise InputError(
            f"{condition.column} of {path} is {kind}, which {condition.value!r} is not"
        ) from error
    return _OPERATORS[condition.operator](column, pa.scalar(value, column.type))

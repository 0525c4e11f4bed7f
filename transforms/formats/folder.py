"""Folders of picture files with a table beside them: metadata.jsonl, or metadata.csv of others.

    column            feature
    file_name         the picture itself: a path from the table's folder
    mask_file_name    a file: image/segmentation/class/encoded
    X_file_name       a file: X, and confidence is image/segmentation/confidence/encoded
    label             an integer: image/class/label
    pixelmill         JSON text of what plain columns cannot hold (see plain.py), and of bytes in
                      files: {"FEATURE": {"file": PATH}}
    all others        by their own names

This is the layout of Hugging Face's imagefolder. No path in a table may leave its folder.
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from transforms import storage
from transforms.formats import base
from transforms.formats.base import BadRecord
from transforms.formats.pictures import extension_of
from transforms.formats.plain import (
    bytes_feature,
    from_plain,
    serialized,
    single_bytes,
    to_plain,
)

TABLE = "metadata.jsonl"
_LINE_BYTES = 16 << 20
_TEXT_BYTES = 4096  # longer ones are files of their own
_FILE, _EXACT = "file_name", "pixelmill"
_FILES = {"mask": base.MASK, "confidence": base.CONFIDENCE}
_SUFFIXES = {feature: stem for stem, feature in _FILES.items()}
_RESERVED = (f"_{_FILE}", f"_{_FILE}s")  # ends of names that are paths to others
_LABELS = ("label", "labels")


class Row(NamedTuple):
    """One picture of a table.

    Attributes:
        file: path of the picture, from the table's folder.
        files: paths of other files by feature.
        features: plain values by feature (see plain.py).
    """

    file: str
    files: Mapping[str, str]
    features: Mapping[str, Any]


def read_table(path: str) -> list[Row]:
    """The rows of a table in their order.

    Raises:
        ValueError: a line is none, or leads out of the folder; the message says which.
        OSError: it cannot be read.
    """
    lines = _csv_lines(path) if path.endswith(".csv") else _json_lines(path)
    rows = []
    for number, line in lines:
        try:
            rows.append(_row(line))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"line {number}: {error}") from error
    return rows


def _json_lines(path: str) -> Iterator[tuple[int, dict[str, Any]]]:
    with storage.open_read(path) as file:
        number = 0
        while data := file.readline(_LINE_BYTES):
            number += 1
            if len(data) == _LINE_BYTES:
                raise ValueError(f"line {number} is longer than {_LINE_BYTES:,} bytes")
            if not data.strip():
                continue
            try:
                line = json.loads(data)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"line {number} is no JSON: {error}") from error
            if not isinstance(line, dict):
                raise ValueError(f"line {number} is no JSON object")
            yield number, line


def _csv_lines(path: str) -> Iterator[tuple[int, dict[str, Any]]]:
    text = storage.read_bytes(path).decode("utf-8-sig", "replace")
    try:
        lines = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise ValueError(f"it is no CSV: {error}") from error
    names = [name for name in (lines[0] if lines else ()) if name is not None]
    for name in names:
        values = [line[name] for line in lines]
        make = next((kind for kind in (int, float) if _are(kind, values)), str)
        for line in lines:
            if name != _FILE and not name.endswith(f"_{_FILE}"):
                line[name] = make(line[name]) if line[name] else None
    for number, line in enumerate(lines, 2):
        yield number, {name: line[name] for name in names if line[name] not in (None, "")}


def _are(kind: type, values: list[Any]) -> bool:
    """Whether all values are numbers of a kind as text, or missing."""
    try:
        return len([kind(value) for value in values if value]) > 0
    except ValueError:
        return False


def _row(line: Mapping[str, Any]) -> Row:
    """Raises ValueError."""
    if not isinstance(line.get(_FILE), str):
        raise ValueError(f"expected a text in column {_FILE!r}, got {line.get(_FILE)!r}")
    files: dict[str, str] = {}
    features: dict[str, Any] = {}
    for name, value in line.items():
        name.encode()  # raises for what is no text
        if name in (_FILE, _EXACT):
            continue
        if name.endswith(f"_{_FILE}") and isinstance(value, str):
            stem = name[: -len(_FILE) - 1]
            files[_FILES.get(stem, stem)] = inside(value)
        elif (feature := from_plain(value)) is not None:
            is_label = name in _LABELS and feature.WhichOneof("kind") == "int64_list"
            features[base.LABEL if is_label else name] = to_plain(feature)
    exact = json.loads(line[_EXACT]) if isinstance(line.get(_EXACT), str) else {}
    if not isinstance(exact, dict):
        raise ValueError(f"column {_EXACT!r} is no JSON object")
    for name, value in exact.items():
        name.encode()
        if isinstance(value, dict) and isinstance(value.get("file"), str):
            files[name] = inside(value["file"])
        else:
            from_plain(value, typed=True)  # raises
            features[name] = value
    return Row(inside(line[_FILE]), files, features)


def inside(path: str) -> str:
    """A relative path with "/", as it is. Raises ValueError for one that leaves its folder."""
    parts = path.split("/")
    if "://" in path or "\\" in path or "\0" in path or not {"", ".", ".."}.isdisjoint(parts):
        raise ValueError(f"{path[:200]!r} is no path below the folder of the table")
    return path


def features_of(features: Mapping[str, Any], files: Mapping[str, bytes] = {}) -> bytes:
    """A serialized tf.Example of plain values, and of the content of files."""
    made = {name: from_plain(value, typed=True) for name, value in features.items()}
    made |= {name: bytes_feature([data]) for name, data in files.items()}
    return serialized({name: feature for name, feature in made.items() if feature is not None})


def lay_out(
    features: Mapping[str, Any], picture: str, stem: str
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Content of files by path, and the line of the table, of one record.

    Args:
        features: of its tf.Example.
        picture: which of them is the picture.
        stem: path of its files, without extension.
    """
    files: dict[str, bytes] = {}
    line: dict[str, Any] = {}
    exact: dict[str, Any] = {}
    for name in sorted(features, key=lambda name: (name != picture, name not in _SUFFIXES, name)):
        feature = features[name]
        data = single_bytes(feature)
        if name == picture and data is not None:
            line[_FILE] = f"{stem}.{extension_of(data)}"
            files[line[_FILE]] = data
        elif name in _SUFFIXES and data is not None:
            path = f"{stem}_{_SUFFIXES[name]}.{extension_of(data)}"
            line[f"{_SUFFIXES[name]}_{_FILE}"] = path
            files[path] = data
        elif name == base.LABEL and len(feature.int64_list.value) == 1:
            line["label"] = feature.int64_list.value[0]
        elif data is not None and not _is_text(data):
            slug = re.sub(r"[^a-z0-9_]+", "_", name.lower())[:40]
            path = f"{stem}_{slug}.{extension_of(data)}"
            while path in files:
                path = f"{path[: path.rindex('.')]}_{path[path.rindex('.') :]}"
            exact[name] = {"file": path}
            files[path] = data
        else:
            plain = to_plain(feature)
            reserved = name in (_FILE, _EXACT, *_LABELS) or name.endswith(
                (f"_{_FILE}", f"_{_FILE}s")
            )
            (exact if reserved or isinstance(plain, dict) else line)[name] = plain
    if exact:
        line[_EXACT] = json.dumps(exact, sort_keys=True)
    return files, line


def _is_text(data: bytes) -> bool:
    try:
        return len(data) <= _TEXT_BYTES and data.decode() is not None
    except UnicodeDecodeError:
        return False


def to_line(line: Mapping[str, Any]) -> bytes:
    """A line of a table."""
    return json.dumps(line, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def read_examples(folder: str, picture: str) -> Iterator[bytes | BadRecord]:
    """The records of a folder whose table we wrote, in its order.

    Args:
        picture: the feature that the picture itself becomes.

    Raises:
        OSError: the table cannot be read.
    """
    try:
        rows = read_table(f"{folder}/{TABLE}")
    except ValueError as error:
        yield BadRecord(f"{TABLE}: {error}", last=True)
        return
    for row in rows:
        try:
            paths = {**row.files, picture: row.file}
            files = {name: storage.read_bytes(f"{folder}/{path}") for name, path in paths.items()}
        except OSError as error:
            yield BadRecord(f"{error.filename}: {error.strerror}", last=False)
            continue
        yield features_of(row.features, files)

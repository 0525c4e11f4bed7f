"""Writing Parquet that pandas and `datasets` open: one column a feature, pictures as Images.

The columns are known when the last record is: examples are put aside on the local disk, and then
written by row groups, so that memory holds one of them. A feature that always has one value becomes
a plain column, another one a column of lists, and one that is missing is null. What no column can
hold, such as a name that has values of two types, goes as a tf.Example into a column of its own,
which is there only when it is needed.
"""

import errno
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from transforms.formats import base
from transforms.formats.arrow_values import EXACT, feature_of, unpack_row
from transforms.formats.base import ExampleWriter
from transforms.formats.plain import parsed, serialized, single_bytes
from transforms.formats.tfrecord import read_records, write_record

METADATA = b"pixelmill"
_GROUP_BYTES = 32 << 20
_GROUP_ROWS = 1000
_COLUMNS = {
    base.IMAGE: "image",
    base.MASK: "mask",
    base.CONFIDENCE: "confidence",
    base.LABEL: "label",
}
_PICTURES = (base.IMAGE, base.MASK, base.CONFIDENCE)
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_REPEATED = (pa.int64(), pa.float32(), pa.string())  # types whose values may be alike
_TYPES = {"int64_list": pa.int64(), "float_list": pa.float32()}


class _Seen:
    """What is known of one feature after all records."""

    def __init__(self) -> None:
        self._kinds: set[str | None] = set()
        self._single = self._text = True

    def add(self, feature: Any) -> None:
        kind = feature.WhichOneof("kind")
        self._kinds.add(kind)
        values = getattr(feature, kind).value if kind else ()
        self._single = self._single and len(values) == 1
        if kind == "bytes_list" and self._text:
            self._text = all(map(_is_text, values))

    def type(self, name: str) -> pa.DataType | None:
        """Of the column; None when one cannot hold it."""
        if len(self._kinds) != 1 or None in self._kinds or not name:
            return None
        (kind,) = self._kinds
        if name in _PICTURES:
            return _IMAGE if kind == "bytes_list" and self._single else None
        usual = pa.string() if self._text else pa.binary()
        value = _TYPES.get(str(kind), usual)
        return value if self._single else pa.list_(value)


class _Survey:
    """What is known of all features: as they are, and with exact values in place of near ones."""

    def __init__(self) -> None:
        self._whole: dict[str, _Seen] = {}
        self._rest: dict[str, _Seen] = {}
        self._exact: dict[str, set[pa.DataType]] = {}

    def add(self, features: Mapping[str, Any]) -> None:
        rest, exact = restored(features)
        for seen, found in ((self._whole, features), (self._rest, rest)):
            for name, feature in found.items():
                seen.setdefault(name, _Seen()).add(feature)
        for name, (kind, _) in exact.items():
            self._exact.setdefault(name, set()).add(kind)

    def columns(self) -> "_Columns":
        if all(len(kinds) == 1 and name not in self._rest for name, kinds in self._exact.items()):
            exact = {name: kind for name, (kind,) in self._exact.items()}
            return _Columns(self._rest, exact)
        return _Columns(self._whole, {})


def restored(
    features: Mapping[str, Any],
) -> tuple[Mapping[str, Any], Mapping[str, tuple[pa.DataType, Any]]]:
    """Features that stand for themselves, and the exact values of the others, with their types."""
    data = single_bytes(features[EXACT]) if EXACT in features else None
    exact = unpack_row(data) if data is not None else {}
    if not exact or any(features.get(n) != feature_of(k)(value) for n, (k, value) in exact.items()):
        return features, {}  # of others, or something has been changed since
    return {n: f for n, f in features.items() if n != EXACT and n not in exact}, exact


class _Columns:
    """The schema of a file, and tables of some of its records."""

    def __init__(self, seen: Mapping[str, _Seen], exact: Mapping[str, pa.DataType]) -> None:
        self._exact = exact
        names = sorted({*seen, *exact}, key=lambda name: (name not in _COLUMNS, name))
        types = {n: exact[n] if n in exact else seen[n].type(n) for n in names}
        self._types = {name: kind for name, kind in types.items() if kind is not None}
        self._names: dict[str, str] = {}
        for name in self._types:
            self._names[name] = _free(_COLUMNS.get(name, name), {*names} - {name})
        self._other = ""
        if len(self._types) < len(types) or not self._types:
            self._other = _free("other_features", {*self._names.values()})
        fields = [pa.field(self._names[name], kind) for name, kind in self._types.items()]
        fields += [pa.field(self._other, pa.binary())] if self._other else []
        self.schema = pa.schema(fields, self._metadata())

    def _metadata(self) -> dict[bytes, bytes]:
        columns = {column: name for name, column in self._names.items() if column != name}
        pictures = [n for n, kind in self._types.items() if kind == _IMAGE and n in _PICTURES]
        images = {self._names[name]: {"_type": "Image"} for name in pictures}
        return {
            METADATA: _json({"columns": columns, "other": self._other}),
            b"huggingface": _json({"info": {"features": images}}),
        }

    def options(self) -> dict[str, Any]:
        """How the columns are packed: pictures are so already, and never alike."""
        return {
            "compression": "zstd",
            "compression_level": 1,
            "use_dictionary": [f.name for f in self.schema if f.type in _REPEATED],
            "write_batch_size": 16,  # pages end where they are full, not after 1,024 pictures
            "write_page_checksum": True,
        }

    def table(self, examples: Sequence[bytes]) -> pa.Table:
        """Some records as a table of this schema."""
        rows = [restored(parsed(e)) if self._exact else (parsed(e), {}) for e in examples]
        arrays = []
        for name, kind in self._types.items():
            if name in self._exact:
                values = [exact[name][1] if name in exact else None for _, exact in rows]
            else:
                values = [_value(rest, name, kind) for rest, _ in rows]
            arrays.append(pa.array(values, kind))
        if self._other:
            others = [{n: f for n, f in rest.items() if n not in self._types} for rest, _ in rows]
            arrays.append(pa.array([serialized(o) if o else None for o in others], pa.binary()))
        return pa.Table.from_arrays(arrays, schema=self.schema)


def _value(features: Mapping[str, Any], name: str, kind: pa.DataType) -> Any:
    """The value of a feature in its column."""
    if name not in features:
        return None
    feature = features[name]
    values = list(getattr(feature, feature.WhichOneof("kind")).value)
    if kind == _IMAGE:
        path = single_bytes(features[base.NAME]) if base.NAME in features else None
        text = None if path is None or name != base.IMAGE else path.decode("utf-8", "replace")
        return {"bytes": values[0], "path": text}
    return values if pa.types.is_list(kind) else values[0]


def _free(column: str, taken: Set[str]) -> str:
    while column in taken:
        column += "_"
    return column


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


class _Writer:
    def __init__(self, file: IO[bytes], scratch: str) -> None:
        self._file = file
        self._aside = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 - closed by `close`
        self._survey = _Survey()

    def write(self, example: bytes) -> None:
        self._survey.add(parsed(example))
        write_record(self._aside, example)

    def finish(self) -> None:
        columns = self._survey.columns()
        options = columns.options()
        with pq.ParquetWriter(pa.PythonFile(self._file, "w"), columns.schema, **options) as writer:
            for examples in self._groups():
                writer.write_table(columns.table(examples))
        self.close()

    def _groups(self) -> Iterator[list[bytes]]:
        self._aside.seek(0)
        group: list[bytes] = []
        size = 0
        for example in read_records(self._aside):
            if not isinstance(example, bytes):
                raise OSError(errno.EIO, example.message, "what was put aside")
            if group and (size + len(example) > _GROUP_BYTES or len(group) == _GROUP_ROWS):
                yield group
                group, size = [], 0
            group.append(example)
            size += len(example)
        if group:
            yield group

    def close(self) -> None:
        self._aside.close()


def open_writer(file: IO[bytes], scratch: str) -> ExampleWriter:
    """See ShardFormat."""
    return _Writer(file, scratch)

"""The tables of an evaluation: rows of all images and classes, as Parquet and as CSV."""

import io
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from transforms import storage
from transforms.evaluate import UNPAIRED
from transforms.inputs import Plan
from transforms.partners import pair_name
from transforms.sink import records_path

_KEYS = ("shard", "index", "key", "status", "reason", "message")
_OTHERS = ("source", "output_name", "stage", "bytes_in", "features")


def read_records(out: str, plan: Plan) -> Iterator[tuple[str, pa.Table]]:
    """The records of each committed shard, in the order of the plan. Raises OSError."""
    for shard in plan.shards:
        try:
            data = storage.read_bytes(os.path.join(out, records_path(shard.name)))
        except FileNotFoundError:
            continue
        yield shard.name, pq.read_table(io.BytesIO(data))


def write_images(out: str, plan: Plan) -> None:
    """images.parquet, with lists by class, and images.csv, without. Raises OSError."""
    whole, flat = pa.BufferOutputStream(), pa.BufferOutputStream()
    writer = csv = None
    for name, records in read_records(out, plan):
        table = records.append_column("shard", pa.array([name] * len(records), pa.string()))
        columns = [c for c in table.column_names if c not in (*_KEYS, *_OTHERS)]
        table = table.select([*_KEYS, *columns])
        plain = [c for c in table.column_names if not table.schema.field(c).type.num_fields]
        if writer is None or csv is None:
            writer = pq.ParquetWriter(whole, table.schema, compression="zstd")
            csv = pc.CSVWriter(flat, table.select(plain).schema)
        writer.write_table(table)
        csv.write_table(table.select(plain))
    if writer is None or csv is None:
        return
    writer.close()
    csv.close()
    storage.write(out, "images.parquet", whole.getvalue().to_pybytes())
    storage.write(out, "images.csv", flat.getvalue().to_pybytes())


def write_classes(out: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """classes.parquet and classes.csv: a row for each class. Raises OSError."""
    table = pa.Table.from_pylist([{k: _number(v) for k, v in row.items()} for row in rows])
    whole, flat = pa.BufferOutputStream(), pa.BufferOutputStream()
    pq.write_table(table, whole, compression="zstd")
    pc.write_csv(table, flat)
    storage.write(out, "classes.parquet", whole.getvalue().to_pybytes())
    storage.write(out, "classes.csv", flat.getvalue().to_pybytes())


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def write_unpaired(out: str, plan: Plan, partners: Iterable[str] | None, suffix: str) -> int:
    """unpaired.csv: labels without a prediction, and predictions without a label.

    Args:
        partners: names of all predictions; None where shards have listed those without a label.
        suffix: that names of labels have.

    Returns:
        How many predictions have no label.

    Raises:
        OSError.
    """
    names: list[str] = []
    asked: set[str] = set()
    for _, records in read_records(out, plan):
        keys = records["key"].to_pylist()
        asked.update(name for key in keys if (name := pair_name(key, suffix)) is not None)
        for key, reason in zip(keys, records["reason"].to_pylist(), strict=True):
            if reason == "prediction_missing":
                names.append(key)
    left = sorted(set(partners) - asked) if partners is not None else list(_listed(out, plan))
    sides = ["label"] * len(names) + ["prediction"] * len(left)
    table = pa.table({"side": pa.array(sides, pa.string()), "name": [*names, *left]})
    flat = pa.BufferOutputStream()
    pc.write_csv(table, flat)
    storage.write(out, "unpaired.csv", flat.getvalue().to_pybytes())
    return len(left)


def _listed(out: str, plan: Plan) -> Iterator[str]:
    for shard in plan.shards:
        path = os.path.join(out, UNPAIRED, f"{shard.name}.jsonl")
        if storage.is_file(path):
            for line in storage.read_bytes(path).decode().splitlines():
                yield json.loads(line)["prediction"]

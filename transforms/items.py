"""Plans of pictures that are made of nothing but a seed: which labels, in which shards.

A pure function of the counts. Labels are interleaved, so that every shard, and every beginning of
a shard, has them in the same proportions; a shard is stored as its first item and a count by label.
"""

import csv
import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import yaml

from transforms import storage
from transforms.inputs import Items, Plan, Shard
from transforms.listing import InputError
from transforms.shard_names import ShardName

NO_LABEL = -1
_STEM = "images"


def plan_items(counts: Sequence[int], images_per_shard: int, labelled: bool) -> Plan:
    """The shards of a run that makes pictures.

    Args:
        counts: pictures by label; one number for a model without labels.
        images_per_shard: at most; shards are equal to within one.

    Raises:
        InputError: no picture is asked for.
    """
    total = sum(counts)
    if total < 1:
        raise InputError("no picture is asked for; give --count or --per_class above 0")
    order = label_order(counts)
    shard_count = -(-total // images_per_shard)
    shards = []
    for index in range(shard_count):
        first, end = (total * i // shard_count for i in (index, index + 1))
        found = np.bincount(order[first:end], minlength=len(counts)).tolist()
        labels = tuple((label, count) for label, count in enumerate(found) if count)
        if not labelled:
            labels = ((NO_LABEL, end - first),)
        shards.append(
            Shard(str(ShardName(_STEM, index, shard_count)), "", 0, items=Items(first, labels))
        )
    return Plan(tuple(shards), "items")


def item_labels(items: Items) -> list[tuple[int, int]]:
    """(number of the item in the run, its label) of a shard, in order."""
    labels = [label for label, _ in items.labels]
    order = label_order([count for _, count in items.labels])
    return [(items.first + i, labels[place]) for i, place in enumerate(order.tolist())]


def label_order(counts: Sequence[int]) -> npt.NDArray[np.int64]:
    """Positions 0 to len(counts) - 1, each as often as its count, evenly interleaved.

    The j-th of n is placed at (j + 1/2) / n; ties go by position.
    """
    positions = np.repeat(np.arange(len(counts)), counts)
    places = np.concatenate([(np.arange(n) + 0.5) / n for n in counts if n] or [np.empty(0)])
    return np.asarray(positions[np.lexsort((positions, places))], np.int64)


def even_counts(count: int, labels: int) -> list[int]:
    """`count` pictures over so many labels, the first ones get the rest; [count] without labels."""
    labels = max(1, labels)
    return [count // labels + (label < count % labels) for label in range(labels)]


def class_counts(text: str, classes: Sequence[str]) -> list[int]:
    """Pictures by label from what a person wrote after --per_class.

    Args:
        text: a number for every class, or a YAML or CSV file of class: count. Classes are named,
            or given by their ids.
        classes: names by label.

    Raises:
        InputError: it is neither, or names something else.
    """
    if text.isdecimal():
        return [int(text)] * len(classes)
    if not storage.is_file(text):
        raise InputError(f"--per_class={text} is neither a number nor a file of class: count")
    wanted = _read_counts(text)
    known = {name: label for label, name in enumerate(classes)}
    known |= {str(label): label for label in range(len(classes)) if str(label) not in known}
    counts = [0] * len(classes)
    for name, count in wanted.items():
        if name not in known:
            raise InputError(f"{text} names the class {name!r}; the model has {', '.join(classes)}")
        if not count.isdecimal():
            raise InputError(f"{text}: {name} has the count {count!r}, expected a whole number")
        counts[known[name]] = int(count)
    return counts


def _read_counts(path: str) -> dict[str, str]:
    try:
        text = storage.read_bytes(path).decode()
        if path.endswith(".csv"):
            rows = csv.reader(io.StringIO(text, newline=""))
            return {row[0].strip(): row[1].strip() for row in rows if row}
        found = yaml.safe_load(text)
    except (OSError, ValueError, IndexError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read as class, count: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no class: count lines")
    return {str(name): str(count) for name, count in found.items()}

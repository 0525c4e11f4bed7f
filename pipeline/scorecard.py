"""The scorecard of generated pictures: measured once all shards are there, from their files.

States of features are merged in the order of the plan, so the same shards give the same numbers,
whoever made them in whatever order.
"""

import csv
import functools
import io
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pipeline.run_files import DUPLICATES, read_plan
from pipeline.scorecard_words import findings
from transforms import storage
from transforms.commits import commit_path
from transforms.confusion import chance_accuracy, confusion_of, scores
from transforms.distances import compare, histogram_distance, inception_scores
from transforms.feature_state import FeatureState
from transforms.fidelity import nearest
from transforms.guard import REFERENCE, Reference
from transforms.hashes import distance, earlier_twins
from transforms.inputs import Plan
from transforms.observed import features_path
from transforms.sink import RECORDS
from transforms.sums import add, plain

_COLUMNS = ["index", "key", "status", "digest", "phash"]
_SHOWN_PAIRS = 6


def measure(
    out: str,
    plan: Plan,
    sums: Mapping[str, Any],
    identity: Mapping[str, Any],
    reference: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The scorecard of a run, as metrics.json holds it; writes OUT/duplicates.csv if there are any.

    Args:
        sums: merged sums of the run.
        identity: of the run.
        reference: content of the metrics.json of the reference; None without one.
    """
    checks = identity["checks"]
    classes = identity["model"]["classes"]
    state = merged_state(out, plan)
    marks = list(_marks(out, plan))
    hashes = np.array([int(row["phash"], 16) for row in marks], np.uint64)
    card: dict[str, Any] = {
        "pictures": len(marks),
        "duplicates": _duplicates(out, marks, hashes, checks["near_bits"]),
        "copies": {"exact": 0, "near": 0} | dict(sums.get("copies", {})),
        "attempts": sum(int(k) * n for k, n in sums.get("attempts_needed", {}).items()),
        "rejected": _by_reason(sums.get("rejected", {})),
    }
    known = checks.get("verifier", {}).get("classes", classes)
    names = list(classes or known)
    for name in ("confusion", "first_confusion"):
        if name in sums:
            card[name] = _agreement(sums[name], len(names))
    if state is not None and (inception := inception_scores(state)) is not None:
        card["inception_score"] = inception
    if reference is not None:
        training, root = Reference.load(out), os.path.join(out, REFERENCE)
        real = merged_state(root, read_plan(root))
        card["reference"] = _compare(sums, reference["sums"], training, checks)
        if state is not None and real is not None:
            metric = "FID" if checks["standard_inception"] else "Frechet distance"
            card["reference"] |= {"distances": compare(state, real), "metric": metric}
        card["neighbours"] = _neighbours(training, state, real, marks, hashes)
    card["classes"] = _class_rows(card, sums, names)
    card["findings"] = findings(card, names)
    return card


def merged_state(out: str, plan: Plan) -> FeatureState | None:
    """The features of all committed shards; None when there are none."""
    total: FeatureState | None = None
    for number, shard in enumerate(plan.shards):
        path = os.path.join(out, features_path(shard.name))
        if storage.is_file(os.path.join(out, commit_path(shard.name))) and storage.is_file(path):
            state = FeatureState.from_bytes(storage.read_bytes(path), number)
            total = state if total is None else total.merge(state)
    return total


def _marks(out: str, plan: Plan) -> Iterator[dict[str, Any]]:
    """Names and fingerprints of all pictures, in the order of the plan."""
    for number, shard in enumerate(plan.shards):
        if not storage.is_file(os.path.join(out, commit_path(shard.name))):
            continue
        data = storage.read_bytes(os.path.join(out, RECORDS, f"{shard.name}.parquet"))
        for row in pq.read_table(io.BytesIO(data), columns=_COLUMNS).to_pylist():
            if row["status"] == "ok":
                yield {**row, "shard": shard.name, "number": number}


def _duplicates(
    out: str, marks: Sequence[Mapping[str, Any]], hashes: Any, near_bits: int
) -> dict[str, int]:
    """Counts pictures that repeat an earlier one of the run, and lists them in a file."""
    twins = earlier_twins(hashes, near_bits).tolist()
    first: dict[str, int] = {}
    found = {"exact": 0, "near": 0}
    names, rows = ["shard", "index", "key"], []
    for place, (row, near) in enumerate(zip(marks, twins, strict=True)):
        exact = first.setdefault(row["digest"], place)
        twin = exact if exact != place else near
        if twin < 0:
            continue
        kind = "exact" if exact != place else "near"
        found[kind] += 1
        bits = int(distance(hashes[place], hashes[twin]))
        other = marks[twin]
        rows.append([*(row[n] for n in names), kind, bits, *(other[n] for n in names)])
    if rows:
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*names, "kind", "bits", *(f"of_{name}" for name in names)])
        writer.writerows(rows)
        storage.write(out, DUPLICATES, text.getvalue().encode("utf-8", "replace"))
    else:
        storage.delete(os.path.join(out, DUPLICATES))
    return found


def _by_reason(rejected: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    return plain(functools.reduce(add, rejected.values(), {}))


def _agreement(sums: Mapping[str, Mapping[str, int]], classes: int) -> dict[str, Any]:
    confusion = confusion_of(sums, classes)
    found = scores(confusion)
    chance, deviation = chance_accuracy(confusion)
    by_class = {name: found.by_class[name].tolist() for name in ("precision", "recall", "f1")}
    return {
        "n": int(confusion.sum()),
        "accuracy": number(found.accuracy),
        "chance": chance,
        "chance_deviation": deviation,
        "macro_f1": number(found.means["mean_f1"]),
        **{name: [number(value) for value in values] for name, values in by_class.items()},
        "matrix": confusion.tolist() if classes <= 100 else None,
    }


def _compare(
    sums: Mapping[str, Any],
    real_sums: Mapping[str, Any],
    training: Reference,
    checks: Mapping[str, Any],
) -> dict[str, Any]:
    twins = earlier_twins(training.phashes, checks["near_bits"])
    found: dict[str, Any] = {
        "pictures": len(training.digests),
        "near_duplicates": int((twins >= 0).sum()),
        **{
            f"{name}_distance": number(histogram_distance(sums.get(name, []), real_sums[name]))
            for name in ("brightness", "saturation")
            if name in real_sums and name in sums
        },
    }
    if "confusion" in real_sums:
        classes = len(checks.get("verifier", {}).get("classes", ()))
        found["verifier"] = _agreement(real_sums["confusion"], classes)
    return found


def _neighbours(
    training: Reference,
    state: FeatureState | None,
    real: FeatureState | None,
    marks: Sequence[Mapping[str, Any]],
    hashes: Any,
) -> dict[str, Any]:
    """Pairs of a generated and its nearest training image: the closest ones, and some by chance.

    By features where there are any, else by perceptual hashes.
    """
    real_shards = training.shards
    if state is not None and real is not None:
        shards = {row["number"]: row["shard"] for row in marks}
        found, far = nearest(state.sample.features, real.sample.features)
        pairs = [
            (shards[number_], int(index), *_place(real.sample.places[place], real_shards), float(d))
            for (number_, index), place, d in zip(
                state.sample.places.tolist(), found.tolist(), far.tolist(), strict=True
            )
        ]
        unit = "distance of features"
    else:
        pairs = []
        for row, value in list(zip(marks, hashes, strict=True))[:200]:
            bits = distance(training.phashes, value)
            place = int(bits.argmin())
            where = _place(training.places[place], real_shards)
            pairs.append((row["shard"], row["index"], *where, float(bits[place])))
        unit = "bits of the perceptual hash"
    closest = sorted(pairs, key=lambda pair: pair[-1])[:_SHOWN_PAIRS]
    return {
        "unit": unit,
        "closest": [list(pair) for pair in closest],
        "random": [list(pair) for pair in pairs if pair not in closest][:_SHOWN_PAIRS],
    }


def _place(place: Any, names: Sequence[str]) -> tuple[str, int]:
    return names[int(place[0])], int(place[1])


def _class_rows(
    card: Mapping[str, Any], sums: Mapping[str, Any], names: Sequence[str]
) -> list[dict[str, Any]]:
    """What is known of every class that was asked for."""
    asked, written = sums.get("asked", {}), sums.get("labels", {})
    attempts = sums.get("attempts", {})
    by_class = card.get("reference", {}).get("distances", {}).get("classes", {})
    first = card.get("first_confusion") or card.get("confusion")
    rows = []
    for label, name in enumerate(names):
        key = str(label)
        if not asked.get(key) and not written.get(key):
            continue
        made = written.get(key, 0)
        row: dict[str, Any] = {
            "id": label,
            "name": name,
            "asked": asked.get(key, made),
            "written": made,
            "attempts": attempts.get(key, made),
            "acceptance": made / attempts[key] if attempts.get(key) else None,
            "rejected": sums.get("rejected", {}).get(key, {}),
        }
        if first is not None:
            row |= {part: first[part][label] for part in ("precision", "recall", "f1")}
        score = card.get("inception_score", {}).get("classes", {}).get(key)
        rows.append(row | {"inception_score": score, "distances": by_class.get(key)})
    return rows


def number(value: float) -> float | None:
    """None for what is no number, as JSON has it."""
    return None if math.isnan(value) else value

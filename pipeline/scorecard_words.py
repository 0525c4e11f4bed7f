"""What a scorecard means, in words: each finding is a judgement, its numbers, and what it tells."""

from collections.abc import Mapping, Sequence
from typing import Any

GOOD, WARN, BAD = "good", "warn", "bad"
_LEVELS = (GOOD, WARN, BAD)


def findings(card: Mapping[str, Any], names: Sequence[str]) -> list[dict[str, str]]:
    """Judges a scorecard, the worst first. Each has name, level, value and text."""
    found = [
        *_labels(card, names),
        *_verifier(card),
        *_copies(card),
        *_duplicates(card),
        *_coverage(card),
        *_distance(card),
        *_colours(card),
        *_quotas(card),
    ]
    found.sort(key=lambda finding: -_LEVELS.index(finding["level"]))  # stable
    return found


def worst(found: Sequence[Mapping[str, str]]) -> str:
    """The worst level among findings."""
    return max((finding["level"] for finding in found), key=_LEVELS.index, default=GOOD)


def _finding(name: str, level: str, value: str, text: str) -> dict[str, str]:
    return {"name": name, "level": level, "value": value, "text": text}


def _labels(card: Mapping[str, Any], names: Sequence[str]) -> list[dict[str, str]]:
    found = card.get("first_confusion") or card.get("confusion")
    if not found or not found["n"] or len(names) < 2:
        return []
    accuracy, chance = found["accuracy"], found["chance"]
    value = f"{accuracy:.1%}"
    n = f"of {found['n']:,} first attempts" if "first_confusion" in card else f"of {found['n']:,}"
    if accuracy <= chance + 4 * found["chance_deviation"]:
        text = (
            f"The generator ignores its label: {accuracy:.1%} {n} show what was asked for, and "
            f"chance alone gives {chance:.1%}."
        )
        return [_finding("Labels", BAD, value, text)]
    level = GOOD if accuracy >= 0.9 else WARN if accuracy >= 0.6 else BAD
    recalls = [(r, name) for r, name in zip(found["recall"], names, strict=False) if r is not None]
    text = f"{accuracy:.1%} {n} show what was asked for, by the verifier."
    if recalls and (lowest := min(recalls))[0] < accuracy - 0.02:
        text += f" The worst class is {lowest[1]}: {lowest[0]:.1%}."
    if level == GOOD:
        text += " This rewards easy pictures: see diversity beside it."
    return [_finding("Labels", level, value, text)]


def _verifier(card: Mapping[str, Any]) -> list[dict[str, str]]:
    found = card.get("reference", {}).get("verifier")
    if not found or not found["n"]:
        return []
    accuracy = found["accuracy"]
    level = GOOD if accuracy >= 0.9 else WARN if accuracy >= 0.7 else BAD
    text = f"The verifier is right on {accuracy:.1%} of {found['n']:,} labelled training images."
    if level != GOOD:
        text += " What it says of generated ones means little."
    return [_finding("Verifier", level, f"{accuracy:.1%}", text)]


def _copies(card: Mapping[str, Any]) -> list[dict[str, str]]:
    if "reference" not in card or not card["pictures"]:
        return []
    n = card["pictures"]
    exact, near = (card["copies"].get(kind, 0) for kind in ("exact", "near"))
    usual = 2 * _usual_share(card)  # of those, half have had fewer others to be twins of
    rejected = card["rejected"].get("copy", 0)
    level = GOOD
    if exact:
        level = BAD if exact / n > 0.01 else WARN
    if near / n > max(0.05, 3 * usual):
        level = BAD
    elif near / n > max(0.01, 2 * usual):
        level = max(level, WARN, key=_LEVELS.index)
    text = (
        f"{exact:,} of {n:,} pictures are training images to the last pixel, {near:,} more are "
        f"nearly one; of as many real pictures about {usual:.1%} would be."
    )
    if level == BAD:
        text = f"The generator copies training images: {text}"
    if rejected:
        text += f" {rejected:,} attempts were dropped as copies."
    return [_finding("Copies", level, f"{(exact + near) / n:.1%}", text)]


def _duplicates(card: Mapping[str, Any]) -> list[dict[str, str]]:
    if not card["pictures"]:
        return []
    n, found = card["pictures"], card["duplicates"]
    known = "reference" in card  # without one, nobody knows how alike good pictures are
    # the more pictures, the more have a twin
    usual = _usual_share(card) * n / card["reference"]["pictures"] if known else 0.0
    share = (found["exact"] + found["near"]) / n
    rejected = card["rejected"].get("duplicate", 0)
    dropped = rejected / max(1, card["attempts"])
    level = GOOD
    if found["exact"] / n > 0.01 or share > (max(0.1, min(0.9, 3 * usual)) if known else 0.5):
        level = BAD
    elif found["exact"] or share > (max(0.02, 2 * usual) if known else 0.1) or dropped > 0.1:
        level = WARN
    level = BAD if dropped > 0.5 else level
    text = (
        f"{found['exact']:,} of {n:,} pictures equal an earlier one to the last pixel, "
        f"{found['near']:,} more are nearly equal to one."
    )
    if known:
        text += f" Of as many real pictures about {min(1.0, usual):.1%} would be."
    if level == BAD:
        text = f"The generator has collapsed to few pictures: {text}"
    if rejected:
        text += f" {rejected:,} attempts were dropped as duplicates."
    if share:
        text += " They are listed in duplicates.csv."
    return [_finding("Duplicates", level, f"{share:.1%}", text)]


def _usual_share(card: Mapping[str, Any]) -> float:
    """Share of training images with a near twin among those before them."""
    reference = card.get("reference")
    if not reference or not reference["pictures"]:
        return 0.0
    return float(reference["near_duplicates"] / reference["pictures"])


def _coverage(card: Mapping[str, Any]) -> list[dict[str, str]]:
    found = card.get("reference", {}).get("distances")
    if not found or not found["all"]["coverage"]:
        return []
    coverage, floor = found["all"]["coverage"], (found.get("floor") or {}).get("coverage")
    behind = f"(of {found['all']['rows']:,} generated and as many training images)"
    result = []
    for name, key, bad_text, good_text in (
        (
            "Diversity",
            "recall",
            "The generator has collapsed, or misses much of the training images' variety",
            "Training images that have a generated one in their neighbourhood",
        ),
        (
            "Quality",
            "precision",
            "Most pictures look like no training image",
            "Generated pictures in the neighbourhood of a training image",
        ),
    ):
        value = coverage[key]
        best = floor[key] if floor else 1.0
        ratio = value / best if best else 1.0
        level = GOOD if ratio >= 0.6 else WARN if ratio >= 0.3 else BAD
        text = f"{bad_text if level == BAD else good_text}: {key} is {value:.3f} {behind}"
        text += f"; two halves of the training images reach {best:.3f}." if floor else "."
        result.append(_finding(name, level, f"{value:.3f}", text))
    return result


def _distance(card: Mapping[str, Any]) -> list[dict[str, str]]:
    reference = card.get("reference", {})
    found = reference.get("distances")
    if not found or found["all"]["frechet"] is None:
        return []
    every, floor = found["all"], found.get("floor")
    text = f"Between the features of {every['n']:,} generated and {every['m']:,} training images"
    if floor and floor["frechet"] is not None:
        text += (
            f"; between two halves of the training images, of {floor['n']:,} each, it is "
            f"{floor['frechet']:.4g}"
        )
    if every["kid"]:
        text += (
            f". KID is {every['kid']['mean']:.4g} ± {every['kid']['std']:.3g}, which has no bias"
        )
    text += ". "
    if every["few"]:
        text += (
            "Too few pictures for the number of features: the distance is biased upwards, so "
            "compare it only with one of as many pictures. "
        )
    level = WARN if every["few"] else GOOD
    if floor and floor["kid"] and every["kid"]:
        gap = every["kid"]["mean"] - floor["kid"]["mean"]
        if gap > 10 * max(floor["kid"]["std"], 1e-6):
            level = WARN
    return [_finding(reference["metric"], level, f"{every['frechet']:.4g}", text.strip())]


def _colours(card: Mapping[str, Any]) -> list[dict[str, str]]:
    result = []
    for name in ("brightness", "saturation"):
        value = card.get("reference", {}).get(f"{name}_distance")
        if value is None:
            continue
        level = GOOD if value < 10 else WARN if value < 40 else BAD
        text = (
            f"Mean {name} of pictures differs by {value:.1f} of 255 from the training images' "
            "(earth mover's distance)."
        )
        result.append(_finding(name.capitalize(), level, f"{value:.1f}", text))
    return result


def _quotas(card: Mapping[str, Any]) -> list[dict[str, str]]:
    rows = card["classes"]
    asked = sum(row["asked"] for row in rows)
    if not asked:
        return []
    short = [row for row in rows if row["written"] < row["asked"]]
    written = sum(row["written"] for row in rows)
    attempts = max(1, card["attempts"])
    text = f"{written:,} of {asked:,} pictures that were asked for were taken, in {attempts:,} "
    text += "attempts."
    if short:
        listed = ", ".join(f"{row['name']} {row['asked'] - row['written']:,}" for row in short[:10])
        text += f" Missing by class: {listed}{', ...' if len(short) > 10 else ''}."
    level = GOOD if not short else WARN if written >= 0.99 * asked else BAD
    return [_finding("Quotas", level, f"{written / asked:.1%}", text)]

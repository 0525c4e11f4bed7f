"""What a survey of training data must show before a training starts."""

from collections.abc import Sequence

import numpy as np

from models.errors import UserError
from transforms.training_data import Survey, Wanted

_SHOWN = 5
# Failures of the answer, not of the picture: such data is wrong, and is refused whatever its share.
_WRONG = ("mask_size", "mask_format", "mask_missing", "label_missing", "no_image")


def check_survey(
    survey: Survey,
    wanted: Wanted,
    names: Sequence[str] | None,
    ignore_id: int,
    max_failed_fraction: float,
) -> list[str]:
    """Names of the classes, after all checks.

    Args:
        names: of the classes, or None to take them from the data.
        ignore_id: of pixels that do not count; -1 for none.
        max_failed_fraction: of the examples that may be unreadable.

    Raises:
        UserError: the data cannot be trained on; with the names of what is wrong.
    """
    _check_failures(survey, max_failed_fraction)
    for part, what in (("train", "train on"), ("validation", "validate with")):
        if not survey.keys[part]:  # type: ignore[index]
            raise UserError(
                f"nothing is left to {what}: all examples fell into the other part; give another "
                "--validation_fraction or --split_by"
            )
    if wanted == "labels" and (negative := [c for c in survey.first_with if c < 0]):
        raise UserError(
            f"{survey.first_with[negative[0]]} has the label {negative[0]}, expected 0 or more"
        )
    used = sorted(set(survey.first_with) - {ignore_id if wanted == "masks" else -1})
    count = len(names) if names else (used[-1] + 1 if used else 0)
    if beyond := [class_id for class_id in used if class_id >= count]:
        examples = ", ".join(f"{c} in {survey.first_with[c]}" for c in beyond[:_SHOWN])
        raise UserError(
            f"{len(names or ())} classes are named, so ids go from 0 to {count - 1}; there is "
            f"{examples}. Name more by --classes, or say what means unlabelled by --ignore_id"
        )
    if count < 2:
        more = f"; {ignore_id} counts as unlabelled, see --ignore_id" if wanted == "masks" else ""
        raise UserError(
            f"the examples show {count} class, at least 2 are needed; ids found: "
            f"{', '.join(map(str, sorted(survey.first_with))) or 'none'}{more}"
        )
    found = list(names or (survey.texts.get(i) or f"class {i}" for i in range(count)))
    if len(set(found)) < len(found):
        raise UserError(f"classes have the same name: {', '.join(found)}; name them by --classes")
    images = survey.images["train"]
    without = [found[i] for i in range(count) if i >= len(images) or not images[i]]
    if without:
        raise UserError(
            f"no training example shows {', '.join(without[:_SHOWN])}; add some, leave the class "
            "out, or give another --validation_fraction"
        )
    return found


def usual_size_hw(survey: Survey, largest_px: int) -> tuple[int, int]:
    """(height, width) of most training pictures, scaled down to at most `largest_px` a side."""
    sizes = survey.sizes_hw["train"]
    height, width = max(sizes, key=lambda size: (sizes[size], size))
    scale = min(1.0, largest_px / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _check_failures(survey: Survey, max_failed_fraction: float) -> None:
    wrong = [(key, f) for key, f in survey.failed if f.reason in _WRONG]
    total = len(survey.failed) + int(np.sum([len(keys) for keys in survey.keys.values()]))
    if total == 0:
        raise UserError("there are no examples in the input")
    if wrong:
        shown, count = wrong, f"{len(wrong):,} of {total:,} examples are wrong"
    elif len(survey.failed) > max_failed_fraction * total:
        shown = survey.failed
        count = (
            f"{len(shown):,} of {total:,} examples cannot be read, more than "
            f"--max_failed_fraction={max_failed_fraction:g} allows"
        )
    else:
        return
    lines = [f"  {key}: {failure.message}" for key, failure in shown[:_SHOWN]]
    if len(shown) > _SHOWN:
        lines.append(f"  ... and {len(shown) - _SHOWN:,} more")
    raise UserError("\n".join([f"{count}:", *lines]))

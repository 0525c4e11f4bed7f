"""What a survey of training data must show before a training starts."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from models.errors import UserError
from transforms.training_data import Part, Survey, Wanted

_SHOWN = 5
# Failures of the answer, not of the picture: such data is wrong, and is refused whatever its share.
# So is a shard that is cut: nobody knows how many examples are lost.
_WRONG = (
    *("mask_size", "mask_format", "mask_missing", "label_missing", "label_range", "no_image"),
    "rest_lost",
)


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
    ignored = ignore_id if wanted == "masks" else -1
    used = sorted(set(survey.first_with) - {ignored})
    count = len(names) if names else (used[-1] + 1 if used else 0)
    if beyond := [class_id for class_id in used if class_id >= count]:
        examples = ", ".join(f"{c} in {survey.first_with[c]}" for c in beyond[:_SHOWN])
        raise UserError(
            f"{len(names or ())} classes are named, so ids go from 0 to {count - 1}; there is "
            f"{examples}. Name more by --classes, or say what means unlabelled by --ignore_id"
        )
    taught = [i for i in range(count) if i != ignored]
    if len(taught) < 2:
        raise UserError(
            f"there are too few classes to tell apart, {len(taught)}, at least 2 are needed; "
            f"{_ids_found(survey, ignored)}"
        )
    found = list(names or (survey.texts.get(i) or f"class {i}" for i in range(count)))
    _check_names(found)
    shown = zip(taught, _images_with(survey, "train", taught), strict=True)
    if without := [found[i] for i, images in shown if not images]:
        raise UserError(
            f"no training example shows {_some(without)}; {_ids_found(survey, ignored)}. Add some, "
            "number the ids without gaps, leave the class out, or give `train` another "
            "--validation_fraction"
        )
    if not _images_with(survey, "validation", taught).any():
        raise UserError(
            f"all of the validation part is unlabelled (id {ignored}, see --ignore_id): nothing is "
            "left to validate with; give another --validation_fraction or --split_by"
        )
    return found


def not_validated(survey: Survey, classes: Sequence[str]) -> list[str]:
    """Classes that no example of the validation part shows, so that nothing is known of them."""
    images = _images_with(survey, "validation", range(len(classes)))
    return [name for name, count in zip(classes, images, strict=True) if not count]


def usual_size_hw(survey: Survey, largest_px: int) -> tuple[int, int]:
    """(height, width) of most training pictures, scaled down to at most `largest_px` a side."""
    sizes = survey.sizes_hw["train"]
    height, width = max(sizes, key=lambda size: (sizes[size], size))
    scale = min(1.0, largest_px / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _images_with(survey: Survey, part: Part, ids: Sequence[int]) -> npt.NDArray[np.int64]:
    """int64 [len(ids)]: pictures of a part that show each class."""
    images = survey.images[part]
    return np.asarray([images[i] if i < len(images) else 0 for i in ids], np.int64)


def _check_names(names: Sequence[str]) -> None:
    if twice := sorted({name for name, count in Counter(names).items() if count > 1}):
        raise UserError(
            f"several classes have the name {_some(twice)}; give each its own by --classes"
        )
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise UserError(
                f"the class name {name!a} is no Unicode text; rename it (UTF-8)"
            ) from None


def _ids_found(survey: Survey, ignored: int) -> str:
    ids = [str(i) for i in sorted(survey.first_with)]
    note = f", of which {ignored} counts as unlabelled, see --ignore_id"
    return f"ids found: {_some(ids) or 'none'}{note if ignored in survey.first_with else ''}"


def _some(words: Sequence[str]) -> str:
    more = len(words) - _SHOWN
    return ", ".join(words[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")


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

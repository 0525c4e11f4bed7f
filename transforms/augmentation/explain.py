"""A recipe in words, for a person who wants to know what would be done."""

import re
from typing import Any

from transforms.augmentation.recipe import Balance, Filter, Recipe


def explain(recipe: Recipe) -> str:
    """What a recipe asks for, in sentences, a line for each step."""
    lines = [
        f"From the shards {recipe.source}, examples are made for {recipe.publish}.",
        *_pseudo(recipe),
        *_filter(recipe.filter),
        f"Of every picture {_times(recipe.per_image)}"
        + (", and more of rare classes:" if recipe.balance else "."),
        *(_balance(recipe.balance) if recipe.balance else ()),
    ]
    if recipe.generate is not None:
        made = recipe.generate
        checked = f", if {made.verifier} sees the class in it" if made.verifier else ""
        lines.append(f"  What then lacks of a class is made by {made.model}{checked}.")
    if (translate := recipe.translate) is not None:
        chance = "Copies are" if translate.p == 1 else f"{translate.p:.0%} of copies are"
        lines.append(
            f"{chance} made of what {translate.model} makes of the picture, or of its mask if the "
            "model's card says so; mask and label stay."
        )
    if recipe.steps:
        lines.append("Each copy goes through:")
        lines += [f"  {number}. {_step(step)}" for number, step in enumerate(recipe.steps, 1)]
    elif recipe.translate is None:
        lines.append("No step is named: copies are the pictures themselves.")
    lines.append(
        f"Where a mask has nothing to say, it holds the ignore id {recipe.ignore_id}. Pictures are "
        f"written as {recipe.format.upper()}"
        + (f" of quality {recipe.quality}" if recipe.format == "jpeg" else "")
        + f", random numbers come from seed {recipe.seed}, the picture's key, the copy and the "
        "step."
    )
    if recipe.gates:
        lines.append(f"Nothing is published unless: {'; '.join(recipe.gates)}.")
    return "\n".join(lines)


def _times(count: int) -> str:
    return {0: "no copy is made", 1: "one copy is made"}.get(count, f"{count} copies are made")


def _step(step: Any) -> str:
    fields = step.model_dump(exclude={"step", "p"}, exclude_none=True)
    shown = ", ".join(f"{name} {_value(value)}" for name, value in fields.items())
    chance = f" (in {step.p:.0%} of copies)" if step.p < 1 else ""
    doc = re.split(r"(?<!al)\.(?: |$)", " ".join((type(step).__doc__ or "").split()))[0]
    return f"{step.step}{chance}: {doc}" + (f" [{shown}]" if shown else "")


def _value(value: Any) -> str:
    if isinstance(value, tuple) and len(value) == 2:
        return f"{value[0]:g} to {value[1]:g}"
    return str(value)


def _balance(balance: Balance) -> list[str]:
    target = "as much as the largest" if balance.target == "largest" else str(balance.target)
    where = (
        f"by what the whole source has ({balance.have}), each shard makes its share"
        if balance.have
        else "each shard in itself"
    )
    return [
        f"  every class is to have {target}, counted in {balance.by}, {where};",
        f"  at most {balance.max_copies} copies of a picture, and copies at most "
        f"{balance.max_synthetic_share:.0%} of a shard's pictures and copies.",
    ]


def _filter(filters: Filter) -> list[str]:
    lines = []
    if filters.min_side_px:
        lines.append(f"  a side below {filters.min_side_px} px")
    if filters.brightness != (0.0, 255.0):
        lines.append(f"  a mean brightness outside {_value(filters.brightness)}")
    if filters.min_sharpness:
        lines.append(f"  a sharpness below {filters.min_sharpness:g}")
    if filters.duplicates != "keep":
        nearly = ", or nearly equal," if filters.duplicates == "near" else ""
        lines.append(f"  pictures that are equal{nearly} to an earlier one of their shard")
    for pattern in filters.validation:
        lines.append(f"  pictures of {pattern}, known by {', '.join(filters.leakage)}")
    return ["Left out are:", *lines] if lines else []


def _pseudo(recipe: Recipe) -> list[str]:
    if (pseudo := recipe.pseudo_label) is None:
        return []
    return [
        f"Pictures without a mask get one by {pseudo.model}: pixels with a confidence below "
        f"{pseudo.min_confidence:g} become the ignore id, and pictures of which less than "
        f"{pseudo.min_part:.0%} is sure are left out."
    ]

"""A recipe: which training examples are made of which, as YAML, checked before anything runs.

    source: shards/train-*.tfrecord       # what is there
    publish: nightly                      # where the additional examples go
    seed: 7
    per_image: 2                          # copies of every picture
    steps:                                # each copy gets all of them, in this order
      - {step: flip}
      - {step: rotate, degrees: [-10, 10]}
      - {step: fog, p: 0.2}
    balance: {by: pixels, target: largest, max_copies: 10}
    filter: {validation: [shards/val-*.tfrecord]}
    gates: ["records.failed < 10"]

recipe.schema.json, beside this file, is the same for editors.
"""

import difflib
import functools
import hashlib
import json
import os
from typing import Annotated, Any, Literal

import pydantic
import yaml

from models.errors import UserError
from models.signatures import fingerprint as model_fingerprint
from transforms import paths, storage
from transforms.augmentation.steps import PARTNERED, ClassId, Greys, MixUp, Share, Step, Strict
from transforms.hashes import MOST_NEAR_BITS
from transforms.listing import list_input
from transforms.staging import local_file, local_model

# Of the steps' formulas: raise it when the same recipe would give other bytes.
VERSION = 1
Count = Annotated[int, pydantic.Field(ge=0)]
Positive = Annotated[int, pydantic.Field(gt=0)]


class RecipeError(UserError):
    """The recipe cannot be used; the message says what was got, what is expected, and the fix."""


class Features(Strict):
    """Names of features in the source's tf.Examples."""

    image: str = "image/encoded"
    key: str = "image/filename"
    mask: str = "image/segmentation/class/encoded"
    label: str = "image/class/label"


class Balance(Strict):
    """More copies of pictures that show rare classes, on top of per_image."""

    by: Literal["images", "pixels"] = "images"
    """What is counted: pictures that show a class (labels: pictures of it), or its pixels."""
    target: Literal["largest"] | Count | dict[ClassId, Count] = "largest"
    """How many each class is to have, source and copies together: as the largest class, a number,
    or a number for each class id."""
    have: str | None = None
    """A metrics.json of a run over masks or labels, or a YAML file {class id: count}, with what the
    whole source has: each shard then makes its share of what is needed. Without, each shard is
    balanced in itself. Either way a shard's output depends on no other shard."""
    max_copies: Count = 10
    """Of one picture, per_image included."""
    max_synthetic_share: Annotated[float, pydantic.Field(gt=0, lt=1)] = 0.9
    """Of a shard's copies among its pictures and copies."""


class Generate(Strict):
    """Pictures by a generator of labels, for what balance lacks after its copies."""

    model: str
    """Folder of the SavedModel."""
    card: str | None = None
    """Its card; without, the one that lies in it."""
    verifier: str | None = None
    """Folder of a classifier: pictures in which it sees another class are drawn again."""
    verifier_card: str | None = None
    """Its card; without, the one that lies in it."""
    min_confidence: Share = 0.0
    """Of the verifier, for a picture to be taken."""
    max_attempts: Positive = 10
    """For one picture."""
    batch_size: Positive = 32


class Translate(Strict):
    """Pictures by a model of pictures, or of masks if it takes these, that copies are made of."""

    model: str
    """Folder of the SavedModel."""
    card: str | None = None
    """Its card; without, the one that lies in it. It says whether masks go in."""
    p: Share = 1.0
    """Probability that a copy is made of the model's picture, not of the source's own."""


class PseudoLabel(Strict):
    """Masks by a segmenter for pictures that have none."""

    model: str
    """Folder of the SavedModel."""
    card: str | None = None
    """Its card; without, the one that lies in it."""
    min_confidence: Share = 0.9
    """Pixels of which the model is less sure become the ignore id."""
    min_part: Share = 0.5
    """Pictures of which a smaller part is sure are left out."""
    batch_size: Positive = 8


class Filter(Strict):
    """Which pictures of the source are not used."""

    min_side_px: Positive | None = None
    """Smaller pictures are left out."""
    brightness: Greys = (0.0, 255.0)
    """Mean of all values, 0 to 255; others are left out."""
    min_sharpness: Annotated[float, pydantic.Field(ge=0)] = 0.0
    """Variance of the Laplacian of the grey picture; blurred ones have less."""
    max_ignored: Share = 0.95
    """Copies with more of the ignore id in their mask are left out."""
    duplicates: Literal["keep", "exact", "near"] = "exact"
    """Repeated pictures of a shard: kept, or left out if equal to an earlier one, or nearly so."""
    near_bits: Annotated[int, pydantic.Field(ge=0, le=MOST_NEAR_BITS)] = 3
    """In how many of 64 bits the perceptual hashes of near duplicates may differ."""
    validation: tuple[str, ...] = ()
    """Shards of pictures that nothing may be made of."""
    leakage: tuple[Literal["key", "exact", "near"], ...] = ("key", "exact", "near")
    """By what a picture of these is known: its name, its pixels, its looks."""


class Recipe(Strict):
    """Everything that is asked for."""

    source: str
    """TFRecord shards with masks or labels: a folder, a glob, name@N, or several by commas."""
    publish: str
    """Folder for the results."""
    seed: Annotated[int, pydantic.Field(ge=0, lt=1 << 63)] = 0
    per_image: Annotated[int, pydantic.Field(ge=0, le=1000)] = 1
    """Copies of every picture."""
    steps: tuple[Step, ...] = ()
    """Done to each copy, in this order."""
    ignore_id: ClassId = 255
    """Class id of pixels that count for nothing."""
    balance: Balance | None = None
    generate: Generate | None = None
    translate: Translate | None = None
    pseudo_label: PseudoLabel | None = None
    filter: Filter = Filter()
    features: Features = Features()
    format: Literal["png", "jpeg"] = "png"
    quality: Annotated[int, pydantic.Field(ge=1, le=100)] = 95
    """Of JPEGs."""
    classes: tuple[str, ...] | None = None
    """Names by class id, for reports."""
    gates: tuple[str, ...] = ()
    """Conditions on metrics.json of what is new, without which nothing is published: written like
    `records.failed < 10`, see pipeline/gates.py."""

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> "Recipe":
        if self.per_image == 0 and self.balance is None:
            raise ValueError(
                "per_image is 0 and there is no balance, so nothing would be made; give one"
            )
        if self.balance is not None and self.per_image > self.balance.max_copies:
            raise ValueError(
                f"per_image is {self.per_image}, over balance.max_copies "
                f"({self.balance.max_copies}); raise that"
            )
        if self.generate is not None and (self.balance is None or self.balance.by != "images"):
            raise ValueError(
                "generate makes what balance lacks of the pictures of a class; give balance with "
                "by: images (and max_copies: 0 for generated pictures only)"
            )
        if self.generate is not None and self.pseudo_label is not None:
            raise ValueError(
                "generate makes pictures of labels and pseudo_label makes masks; use two recipes"
            )
        if self.pseudo_label is not None and any(isinstance(s, MixUp) for s in self.steps):
            raise ValueError(
                "mixup blends two pictures, but class ids of two masks cannot be blended; use "
                "cutmix or copy_paste with pseudo_label"
            )
        return self

    @property
    def needs_partners(self) -> bool:
        """Whether a step takes a second picture."""
        return any(isinstance(step, PARTNERED) for step in self.steps)

    def content(self) -> dict[str, Any]:
        """All that decides what is made of a shard, as JSON: not where it comes from or goes to."""
        fields = self.model_dump(mode="json", exclude={"source", "publish", "gates", "classes"})
        found: dict[str, Any] = {"version": VERSION, **fields}
        for section in ("generate", "translate", "pseudo_label"):
            given = found[section] or {}
            for name in ("model", "verifier"):
                if given.get(name):
                    given[name] = model_fingerprint(local_model(paths.absolute(given[name])))
            for name in ("card", "verifier_card"):
                if given.get(name):
                    given[name] = _digest_of(given[name])
        if self.translate is None:  # a recipe of before there was one stays the same
            del found["translate"]
        if self.balance is not None and self.balance.have:
            found["balance"]["have"] = _digest_of(self.balance.have)
        found["filter"]["validation"] = [_listed(each) for each in self.filter.validation]
        return found

    @functools.cached_property
    def fingerprint(self) -> str:
        """sha256 of `content`: of steps, seed, models, counts and the list of validation shards.

        Raises:
            UserError: a file that the recipe names cannot be read.
        """
        text = json.dumps(self.content(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def load_recipe(path: str) -> Recipe:
    """Reads and checks a recipe. Raises RecipeError."""
    try:
        with open(local_file(path), encoding="utf-8") as file:
            fields = yaml.safe_load(file)
    except OSError as error:
        raise RecipeError(f"cannot read the recipe {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RecipeError(f"the recipe {path} is not YAML: {error}") from error
    if not isinstance(fields, dict):
        raise RecipeError(
            f"the recipe {path} holds a {type(fields).__name__}, expected fields such as "
            "`source: shards/*.tfrecord`"
        )
    return parse_recipe(fields, path)


def parse_recipe(fields: dict[Any, Any], path: str = "recipe") -> Recipe:
    """A recipe from its fields. Raises RecipeError with a line for every fault."""
    try:
        return Recipe.model_validate(fields)
    except pydantic.ValidationError as error:
        lines = [f"  {_place(e['loc'])}: {_fault(e)}" for e in error.errors()]
        raise RecipeError("\n".join([f"{path} is no recipe:", *lines])) from error


def json_schema() -> dict[str, Any]:
    """The recipe's JSON schema, for editors. recipe.schema.json holds it."""
    schema = Recipe.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _place(loc: tuple[int | str, ...]) -> str:
    """ "steps[2].degrees" of ("steps", 2, "rotate", "degrees"): a step's own name says nothing."""
    text = ""
    for number, part in enumerate(loc):
        if isinstance(part, int):
            text += f"[{part}]"
        elif "[" in part or "-" in part:  # of a union: which of its kinds was tried
            continue
        elif not (number == 2 and loc[0] == "steps"):
            text += f".{part}" if text else part
    return text or "recipe"


def _fault(error: Any) -> str:
    """What is wrong with a field, and how to mend it."""
    kind, context, got = error["type"], error.get("ctx", {}), error["input"]
    if kind == "missing":
        return "missing; it is required"
    if kind == "extra_forbidden":
        return f"unknown field; {_near(str(error['loc'][-1]), _known_fields(error['loc']))}"
    if kind == "union_tag_invalid":
        known = [name.strip("'") for name in context["expected_tags"].split(", ")]
        return f"got step {context['tag']!r}; {_near(str(context['tag']), known)}"
    if kind in ("union_tag_not_found", "model_attributes_type", "model_type"):
        return f"got {_short(got)}, expected fields such as {{step: flip}}"
    said = str(error["msg"])
    text = said.removeprefix("Value error, ")
    if text == said:
        text = text.replace("Input should be", "expected").replace("Input", "it")
        return f"got {_short(got)}, {text}"
    return text


def _known_fields(loc: tuple[int | str, ...]) -> list[str]:
    """The fields that there are beside an unknown one."""
    if loc[0] == "steps" and len(loc) > 2:
        for model in Step.__origin__.__args__:  # type: ignore[attr-defined]
            if model.model_fields["step"].annotation.__args__[0] == loc[2]:
                return list(model.model_fields)
    found: Any = Recipe
    for part in loc[:-1]:
        kinds = [found.model_fields[part].annotation] if part in found.model_fields else []
        kinds += [k for kind in kinds for k in getattr(kind, "__args__", ())]
        found = next((k for k in kinds if isinstance(k, type) and issubclass(k, Strict)), Recipe)
    return list(found.model_fields)


def _near(got: str, known: list[str]) -> str:
    close = difflib.get_close_matches(got, known, 1)
    meant = f"did you mean {close[0]}? " if close else ""
    return f"{meant}Known: {', '.join(known)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _digest_of(path: str) -> str:
    try:
        return hashlib.sha256(storage.read_bytes(paths.absolute(path))).hexdigest()
    except OSError as error:
        raise RecipeError(f"cannot read {path}: {error.strerror}") from error


def _listed(pattern: str) -> list[list[Any]]:
    """Names and sizes of validation shards; their place does not matter."""
    return sorted([os.path.basename(path), size] for path, size in list_input(pattern).files)

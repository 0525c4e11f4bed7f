"""Recipes: what is accepted, what is said of what is not, and what decides the output."""

import json
from pathlib import Path

import pytest
import yaml

from transforms.augmentation import recipe as recipes
from transforms.augmentation import steps as kinds
from transforms.augmentation.explain import explain
from transforms.augmentation.recipe import RecipeError, json_schema, load_recipe, parse_recipe

SMALL = {"source": "shards", "publish": "out", "steps": [{"step": "flip"}]}


def test_the_schema_for_editors_is_that_of_the_recipe():
    """To write it anew: json.dumps(json_schema(), indent=1) and a line feed."""
    path = Path(recipes.__file__).with_name("recipe.schema.json")
    assert path.read_text(encoding="utf-8") == json.dumps(json_schema(), indent=1) + "\n"


def test_the_example_of_the_module_is_a_recipe(tmp_path):
    example = recipes.__doc__.partition("\n\n")[2].partition("\n\n")[0]
    path = tmp_path / "recipe.yaml"
    path.write_text(example)
    made = load_recipe(str(path))
    assert [step.step for step in made.steps] == ["flip", "rotate", "fog"]
    assert made.per_image == 2 and made.balance.by == "pixels"
    text = explain(made)
    for words in ("20% of copies", "-10 to 10", "as much as the largest", "shards/val-*.tfrecord"):
        assert words in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sorce": "x"}, "sorce: unknown field; did you mean source?"),
        ({"steps": [{"step": "rotat"}]}, "steps[0]: got step 'rotat'; did you mean rotate?"),
        ({"steps": ["flip"]}, "steps[0]: got 'flip', expected fields such as {step: flip}"),
        ({"steps": [{"step": "rotate", "degree": 3}]}, "did you mean degrees?"),
        (
            {"steps": [{"step": "rotate", "degrees": [9, 1]}]},
            "steps[0].degrees: expected [lowest, highest], got [9.0, 1.0]; exchange them",
        ),
        ({"steps": [{"step": "flip", "p": 2}]}, "steps[0].p: got 2, expected less than or equal"),
        ({"steps": [{"step": "copy_paste"}]}, "steps[0].classes: missing; it is required"),
        ({"per_image": 0}, "nothing would be made; give one"),
        ({"balance": {"tagret": 3}}, "balance.tagret: unknown field; did you mean target?"),
        ({"per_image": 20, "balance": {"by": "images"}}, "over balance.max_copies (10); raise"),
        ({"filter": {"near_bits": 9}}, "filter.near_bits: got 9, expected less than or equal to 7"),
        (
            {"steps": [{"step": "mixup"}], "pseudo_label": {"model": "m"}},
            "class ids of two masks cannot be blended; use cutmix",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_place_and_the_fix(change, said):
    with pytest.raises(RecipeError) as error:
        parse_recipe({**SMALL, **change}, "night.yaml")
    assert "night.yaml is no recipe" in str(error.value)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("content", "said"), [("- a\n", "holds a list"), ("{", "is not YAML"), (None, "cannot read")]
)
def test_files_that_are_no_recipe(tmp_path, content, said):
    path = tmp_path / "recipe.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(RecipeError, match=said):
        load_recipe(str(path))


def test_the_fingerprint_is_of_what_decides_the_output(tmp_path):
    (tmp_path / "val-00000-of-00001.tfrecord").write_bytes(b"12345")
    counts = tmp_path / "counts.yaml"
    counts.write_text("1: 5\n")
    full = {
        **SMALL,
        "filter": {"validation": [f"{tmp_path}/val-*.tfrecord"]},
        "balance": {"have": str(counts)},
    }
    first = parse_recipe(full).fingerprint
    same = [{"source": "other"}, {"publish": "other"}, {"gates": ["failed < 3"]}]
    assert {parse_recipe({**full, **change}).fingerprint for change in same} == {first}
    others = [
        {"seed": 1},
        {"per_image": 2},
        {"steps": []},
        {"steps": [{"step": "flip", "p": 0.4}]},
        {"ignore_id": 11},
        {"filter": {}},
        {"format": "jpeg"},
        {"balance": {"have": str(counts), "by": "pixels"}},
    ]
    found = [parse_recipe({**full, **change}).fingerprint for change in others]
    counts.write_text("1: 6\n")
    found.append(parse_recipe(full).fingerprint)
    counts.write_text("1: 5\n")
    (tmp_path / "val-00000-of-00001.tfrecord").write_bytes(b"1234567")
    found.append(parse_recipe(full).fingerprint)
    assert len({first, *found}) == len(found) + 1


def test_a_recipe_survives_json():
    made = parse_recipe(
        {**SMALL, "steps": [{"step": "copy_paste", "classes": [3]}], "balance": {"target": {3: 9}}}
    )
    again = parse_recipe(json.loads(json.dumps(made.model_dump(mode="json"))))
    assert again == made and again.fingerprint == made.fingerprint
    assert yaml.safe_load(yaml.safe_dump(made.model_dump(mode="json")))


def test_a_translation_is_explained():
    made = parse_recipe({**SMALL, "translate": {"model": "models/rain", "p": 0.25}})
    assert "25% of copies are made of what models/rain makes of the picture" in explain(made)


def test_the_document_names_every_step_and_field():
    text = (Path(__file__).parents[3] / "docs" / "recipes.md").read_text(encoding="utf-8")
    for field in recipes.Recipe.model_fields:
        assert f"`{field}`" in text, field
    for model in kinds.Step.__origin__.__args__:
        name = model.model_fields["step"].annotation.__args__[0]
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        for field in set(model.model_fields) - {"step", "p"}:
            assert f"`{field}`" in row, f"{name}.{field}"
    example = text.partition("```yaml\n")[2].partition("```")[0]
    assert parse_recipe(yaml.safe_load(example)).per_image == 2


def test_generated_pictures_need_a_balance_of_pictures():
    for change in ({}, {"balance": {"by": "pixels"}}):
        with pytest.raises(RecipeError, match="give balance with by: images"):
            parse_recipe({**SMALL, **change, "generate": {"model": "m"}})


@pytest.mark.parametrize(
    ("section", "fields"),
    [("pseudo_label", {}), ("translate", {}), ("generate", {"balance": {"by": "images"}})],
)
def test_the_fingerprint_is_of_models_and_their_cards_too(tmp_path, section, fields):
    model, card = tmp_path / "model", tmp_path / "card.yaml"
    model.mkdir()
    found = set()
    for graph, words in ((b"1", "a: 1"), (b"2", "a: 1"), (b"2", "a: 2")):
        (model / "saved_model.pb").write_bytes(graph)
        card.write_text(words)
        given = {"model": str(model), "card": str(card)}
        found.add(parse_recipe({**SMALL, **fields, section: given}).fingerprint)
    assert len(found) == 3
    elsewhere = model.rename(tmp_path / "moved")
    given = {"model": str(elsewhere), "card": str(card)}
    assert parse_recipe({**SMALL, **fields, section: given}).fingerprint in found

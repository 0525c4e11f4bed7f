"""Cards: what YAML and flags may say, and what is told when they say something else."""

import textwrap

import pytest

from models.card import MAX_CLASSES, InputCard, ModelCard, OutputCard, load_card, parse_range
from models.errors import ModelError


@pytest.fixture
def card_file(tmp_path):
    def write(text):
        path = tmp_path / "card.yaml"
        path.write_bytes(text if isinstance(text, bytes) else textwrap.dedent(text).encode())
        return str(path)

    return write


FULL = """\
    signature: serving_default
    tags: [serve]
    input:
      name: image
      range: "-1,1"
      mean: [0.485, 0.456, 0.406]
      std: [0.229, 0.224, 0.225]
      channels: BGR
      layout: NCHW
      size: [512, 384]
    output: {name: logits, kind: softmax, layout: NHWC, threshold: 0.25}
    classes: [background, person]
    colors: ["#000000", "#FFaa00"]
    """


def test_every_field_is_read(card_file):
    assert load_card(card_file(FULL), {}) == ModelCard(
        signature="serving_default",
        tags=["serve"],
        input=InputCard(
            name="image",
            range="-1,1",
            mean=[0.485, 0.456, 0.406],
            std=[0.229, 0.224, 0.225],
            channels="BGR",
            layout="NCHW",
            size=(512, 384),
        ),
        output=OutputCard(name="logits", kind="softmax", layout="NHWC", threshold=0.25),
        classes=["background", "person"],
        colors=["#000000", "#FFaa00"],
    )


def test_every_field_is_optional():
    card = load_card(None, {})
    assert card == ModelCard()
    assert card.input.channels == "RGB"
    assert card.output.threshold == 0.5


def test_overrides_win_and_leave_the_rest(card_file):
    overrides = {"input.range": "0,1", "output.kind": "logits", "signature": "other"}
    card = load_card(card_file(FULL), overrides)
    assert (card.input.range, card.output.kind, card.signature) == ("0,1", "logits", "other")
    assert (card.input.channels, card.output.threshold) == ("BGR", 0.25)
    assert overrides == {"input.range": "0,1", "output.kind": "logits", "signature": "other"}


def test_flags_that_were_not_given_override_nothing(card_file):
    path = card_file(FULL)
    assert load_card(path, {"input.range": None, "classes": None}) == load_card(path, {})


def test_overrides_alone_make_a_card():
    card = load_card(None, {"input.size": [8, 9], "input.range": "0,1", "output.name": "y"})
    assert card == ModelCard(input=InputCard(size=(8, 9), range="0,1"), output=OutputCard(name="y"))


def test_an_override_beside_the_groups_of_a_card_without_them(card_file):
    card = load_card(card_file("classes: [a, b]\n"), {"input.name": "x"})
    assert (card.classes, card.input.name) == (["a", "b"], "x")


def test_a_false_value_overrides_too(card_file):
    assert load_card(card_file(FULL), {"output.threshold": 0}).output.threshold == 0


def test_no_override_goes_into_what_is_no_group(card_file):
    with pytest.raises(ModelError, match=r"card\.yaml: input must be a mapping"):
        load_card(card_file("input: image\n"), {"input.range": "0,1"})


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("inptu: {}", "inptu"),
        ("input: {rnage: '0,1'}", "input.rnage"),
        ("output: {classes: [a, b]}", "output.classes"),
        ("1: 2", "1"),
        ("input: image", "input"),
        ("input: {name: 3}", "input.name"),
        ("input: {range: [0, 1]}", "input.range"),
        ("input: {range: '0;1'}", "input.range"),
        ("input: {mean: 0.5}", "input.mean"),
        ("input: {mean: [0.5, 0.5]}", "mean has 2 numbers"),
        ("input: {mean: [0.1, 0.2, 0.3], channels: L}", "mean has 3 numbers, expected 1 or 1"),
        ("input: {std: [1, 0, 1]}", "std must not contain 0"),
        ("input: {std: [1, .nan, 1]}", "input.std.1"),
        ("input: {mean: [.inf]}", "input.mean.0"),
        ("input: {channels: RGBA}", "input.channels"),
        ("input: {layout: HWC}", "input.layout"),
        ("input: {size: 512}", "input.size"),
        ("input: {size: [512]}", "input.size"),
        ("input: {size: [512, 512, 3]}", "input.size"),
        ("input: {size: [512, -1]}", "input.size.1"),
        ("input: {size: [512, 1.5]}", "input.size.1"),
        ("input: {max_side: 0}", "input.max_side"),
        ("input: {size: [8, 8], max_side: 9}", "exclude each other"),
        ("output: {kind: argmax}", "output.kind"),
        ("output: {threshold: 1.5}", "output.threshold"),
        ("output: {threshold: .nan}", "output.threshold"),
        ("tags: serve", "tags"),
        ("classes: background", "classes"),
        ("classes: [background]", "classes has 1 names"),
        ("classes: []", "classes has 0 names"),
        ("classes: [yes, no]", "classes.0"),  # YAML reads them as true and false
        ("{classes: [a, b], colors: ['#000000']}", "1 colors for 2 classes"),
        ("{classes: [a, b], colors: [red, blue]}", "colors.0"),
        ("colors: ['#00000g']", "colors.0"),
    ],
)
def test_a_wrong_field_is_named(card_file, text, named):
    path = card_file(text)
    with pytest.raises(ModelError) as caught:
        load_card(path, {})
    message = str(caught.value)
    assert message.startswith(f"model card {path}:\n")
    assert named in message
    assert "fields: signature, tags, input, inputs, output, classes, colors" in message


def test_several_wrong_fields_are_named_at_once(card_file):
    with pytest.raises(ModelError, match=r"(?s)signature.*input\.range.*output\.kind"):
        load_card(card_file("{signature: 3, input: {range: x}, output: {kind: y}}"), {})


def test_a_wrong_flag_is_not_blamed_on_a_file():
    with pytest.raises(ModelError, match=r"^model flags:\n  input\.range: .*expected low,high"):
        load_card(None, {"input.range": "1"})
    with pytest.raises(ModelError, match=r"(?m)^  input\.rnage: "):
        load_card(None, {"input.rnage": "0,1"})


def test_the_number_of_classes_has_a_limit():
    names = [f"c{i}" for i in range(MAX_CLASSES)]
    assert len(load_card(None, {"classes": names}).classes) == MAX_CLASSES
    with pytest.raises(ModelError, match=f"{MAX_CLASSES + 1} names"):
        load_card(None, {"classes": [*names, "x"]})


@pytest.mark.parametrize(
    "payload",
    [
        "!!python/object/apply:os.system ['touch {marker}']",
        "signature: !!python/object/apply:os.system ['touch {marker}']",
        "signature: !!python/object/new:os.system ['touch {marker}']",
        "signature: !!python/name:os.system",
        "signature: !!python/module:os",
        "signature: !custom x",
    ],
)
def test_tags_that_run_code_are_refused(card_file, tmp_path, payload):
    marker = tmp_path / "ran"
    with pytest.raises(ModelError, match=r"is not YAML: .*could not determine a constructor"):
        load_card(card_file(payload.format(marker=marker)), {})
    assert not marker.exists()


@pytest.mark.parametrize(
    "text",
    [
        "input: {name: image",
        "a: b: c",
        "input:\n\tname: x",
        "signature: \x00",
        b"signature: \xff\xfe\xfa",
        "signature: 2024-13-45",  # looks like a date, of month 13
        "[" * 1500,
    ],
)
def test_what_is_no_yaml_is_refused(card_file, text):
    path = card_file(text)
    with pytest.raises(ModelError) as caught:
        load_card(path, {})
    assert str(caught.value).startswith(f"model card {path} is not YAML: ")


@pytest.mark.parametrize(
    ("text", "got"), [("", "NoneType"), ("[a, b]", "list"), ("word", "str"), ("3", "int")]
)
def test_what_is_no_mapping_is_refused(card_file, text, got):
    with pytest.raises(ModelError, match=f"expected a mapping, got {got}"):
        load_card(card_file(text), {})


def test_a_missing_card_is_named(tmp_path):
    path = str(tmp_path / "none.yaml")
    with pytest.raises(ModelError) as caught:
        load_card(path, {})
    assert str(caught.value) == f"cannot read model card {path}: No such file or directory"
    with pytest.raises(ModelError, match="Is a directory"):
        load_card(str(tmp_path), {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0,1", (0, 1)),
        ("-1,1", (-1, 1)),
        (" 0 , 255 ", (0, 255)),
        ("1,0", (1, 0)),
        ("-2.5,1e2", (-2.5, 100)),
    ],
)
def test_ranges(text, expected):
    assert parse_range(text) == expected


@pytest.mark.parametrize(
    "text", ["", "1", "0,1,2", "a,b", "1,1", "0..1", "nan,1", "0,inf", "-inf,inf", ","]
)
def test_what_is_no_range(text):
    with pytest.raises(ValueError, match="expected low,high such as 0,1"):
        parse_range(text)


def test_a_card_cannot_be_changed():
    card = load_card(None, {})
    with pytest.raises(ValueError, match="frozen"):
        card.signature = "x"


def test_a_group_of_which_all_lines_are_open_is_empty(tmp_path):
    """As `inspect --write_card` writes it where the output must be chosen."""
    file = tmp_path / "card.yaml"
    file.write_text("input:\noutput:\n  # name: open\ninputs:\n  z:\n    # role: latent\n")
    with pytest.raises(ModelError, match=r"inputs\.z"):
        load_card(str(file), {})
    card = load_card(str(file), {"output.name": "scores", "inputs.z.role": "latent"})
    assert (card.output.name, card.inputs["z"].role) == ("scores", "latent")

"""Bad usage: exit code 2, one clear message, no traceback, nothing written."""

from pathlib import Path

import pytest
from support import Segment, content

from pipeline import cli


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Runs a command that must be refused; returns its message."""
    try:
        code = cli.main(arguments)
    except SystemExit as stop:  # argparse's own way out
        code = int(stop.code or 0)
    captured = capsys.readouterr()
    assert code == 2, captured
    assert "Traceback" not in captured.err
    assert captured.err.startswith("pixelmill")
    return captured.err


CASES = {
    "no such model": (["--model", "{tmp}/nothing"], "there is no such folder"),
    "a folder that is no model": (["--model", "{photos}"], "is not a SavedModel"),
    "no images": (["--input", "{tmp}/*.png"], "no files match"),
    "no such input": (["--input", "{tmp}/nothing"], "there is no such file or folder"),
    "an empty folder": (["--input", "{tmp}/empty"], "no images"),
    "a missing shard of @N": (["--input", "{tmp}/x.tfrecord@3"], "shard 0 is missing"),
    "OUT is not ours": (["--output", "{tmp}"], "not a run of pixelmill"),
    "the input lies in OUT": (["--output", "{photos}"], "lies in --output"),
    "a runner that does not exist": (["--runner=Foo"], "--runner=Foo"),
    "fewer workers than none": (["--direct_num_workers=-1"], "expected 0"),
    "a feature name for files": (["--image_feature=x"], "the input is image files"),
    "a threshold for many classes": (["--threshold=0.4"], "has no effect"),
    "OUT cannot be made": (["--output", "/proc/nothing/out"], "cannot write"),
    "an unknown flag": (["--batchsize", "4"], "unknown: --batchsize"),
    "an unknown word": (["more"], "unknown: more"),
    "a runner that loses data": (["--runner=DaskRunner"], "loses data"),
    "a wrong number": (["--batch_size=0"], "above 0"),
    "a wrong fraction": (["--max_failed_fraction=7"], "from 0 to 1"),
    "a wrong size": (["--image_size=512"], "HEIGHTxWIDTH"),
    "two ways of sizing": (["--image_size=64x64", "--max_side=99"], "exclude each other"),
    "a wrong range": (["--value_range=0"], "LOW,HIGH"),
    "no such signature": (["--signature=predict"], "serving_default(image: uint8[N,N,N,3])"),
    "no such input name": (["--input_name=pixels"], "has no input 'pixels'"),
    "no such output": (["--output_name=masks"], "logits: float32[N,N,N,5]"),
    "wrong number of classes": (["--classes=a,b"], "5 classes, but 2 names"),
    "no such card": (["--model_card={tmp}/card.yaml"], "cannot read model card"),
    "a wrong Beam value": (["--direct_num_workers=many"], "direct_num_workers"),
    "a place that nobody can open": (["--input", "s3://bucket/x"], "Beam cannot open s3:// here"),
}


@pytest.mark.parametrize("case", CASES)
def test_refused(
    case: str, photos: str, tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more, message = CASES[case]
    (tmp_path / "empty").mkdir()
    usual = {"--input": photos, "--output": str(tmp_path / "out"), "--model": tiny_model}
    names = {"tmp": str(tmp_path), "photos": photos}
    arguments = [argument.format(**names) for argument in more]
    given = dict(zip(arguments[::2], arguments[1::2], strict=False))
    kept = [word for flag in usual if flag not in given for word in (flag, usual[flag])]
    assert message in refused(["segment", *kept, *arguments], capsys)
    assert not (tmp_path / "out").exists()
    assert sorted(p.name for p in Path(photos).iterdir()) == ["left", "right"]


def test_another_configuration_is_refused_with_the_difference(
    photos: str,
    segment: Segment,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert segment(photos, tmp_path) == 0
    before = content(tmp_path)
    assert segment(photos, tmp_path, "--confidence_map", "--batch_size=4") == 2
    message = capsys.readouterr().err
    assert "batch_size: 8 in" in message
    assert "now 4" in message
    assert "confidence_map: false in" in message
    assert "--overwrite" in message
    assert content(tmp_path) == before
    assert segment(photos, tmp_path, "--confidence_map", "--batch_size=4", "--overwrite") == 0
    assert (tmp_path / "confidence").exists()
    assert cli.main(["verify", str(tmp_path)]) == 0


def test_what_does_not_change_the_bytes_may_change(
    photos: str, segment: Segment, tmp_path: Path
) -> None:
    assert segment(photos, tmp_path) == 0
    assert segment(photos, tmp_path, "--threads=3", "--max_failed_fraction=0.5") == 0


def test_a_changed_input_is_refused(
    photos: str, segment: Segment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "photos"
    source.mkdir()
    for path in sorted(Path(photos).glob("left/*"))[:5]:
        (source / path.name).write_bytes(path.read_bytes())
    assert segment(str(source), tmp_path / "out") == 0
    next(source.iterdir()).unlink()
    assert segment(str(source), tmp_path / "out") == 2
    assert "input.files: 5 in" in capsys.readouterr().err


def test_negative_range_may_follow_a_space(
    photos: str, segment: Segment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # refused for what it says, not for how it is written: the tiny model takes whole numbers
    assert segment(photos, tmp_path, "--value_range", "-1,1") == 2
    assert "which a range of -1,1" in capsys.readouterr().err


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["segment", "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for words in ("pixelmill segment --input", "--value_range", "default 8", "Parquet row"):
        assert words in text

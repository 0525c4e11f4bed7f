"""The README's commands are run, in order, as a new user would."""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from models.shipped.digit_scenes import scene
from pipeline import cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_every_console_command_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    shutil.copytree(ROOT / "models" / "shipped", tmp_path / "models" / "shipped")
    (tmp_path / "photos").mkdir()
    for index in range(10):
        Image.fromarray(scene(1, index)[0]).save(tmp_path / "photos" / f"{index}.jpg")
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^\$ pixelmill (.+)$", README, re.MULTILINE)
    assert len(commands) >= 6
    for command in commands:
        assert cli.main(command.split()) == 0, command
    assert len(list((tmp_path / "out" / "masks").iterdir())) == 10
    assert len(list((tmp_path / "out2" / "masks").iterdir())) == 3
    (program,) = re.findall(r"^```python\n(.+?)^```", README, re.MULTILINE | re.DOTALL)
    exec(program, {"__name__": "readme"})
    masks = [sorted((tmp_path / out / "masks").iterdir()) for out in ("out", "out3")]
    assert [p.read_bytes() for p in masks[0]] == [p.read_bytes() for p in masks[1]]


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make ([\w-]+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / link).exists(), link


def test_flags_in_the_readme_exist(capsys: pytest.CaptureFixture[str]) -> None:
    known = {"--runner", "--direct_num_workers", "--help"}  # the first two are Beam's
    for command in ("segment", "generate", "inspect", "pack", "train", "study", "status", "verify"):
        with pytest.raises(SystemExit):
            cli.main([command, "--help"])
        known |= set(re.findall(r"--\w+", capsys.readouterr().out))
    used = set(re.findall(r"(?<![\w-])--[a-z]\w+", README))
    assert used - known == set()


def test_the_card_in_the_readme_is_the_one_that_comes_along() -> None:
    (card,) = re.findall(r"^```yaml\n(.+?)^```", README, re.MULTILINE | re.DOTALL)
    shipped = (ROOT / "models" / "cards" / "biggan_tfhub.yaml").read_text()
    assert card == re.sub(r"^#.*\n", "", shipped, flags=re.MULTILINE)


def test_no_path_of_one_machine() -> None:
    assert os.path.dirname(sys.executable) not in README

"""The README's commands are run, in order, as a new user would."""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from models.shipped.digit_scenes import scene
from pipeline import cli, command_line

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_every_console_command_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    shutil.copytree(ROOT / "models" / "shipped", tmp_path / "models" / "shipped")
    (tmp_path / "photos").mkdir()
    (tmp_path / "labels").mkdir()
    for index in range(10):
        pixels, mask = scene(1, index)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{index}.jpg")
        Image.fromarray(mask).save(tmp_path / "labels" / f"{index}.png")
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^\$ pixelmill (.+)$", README, re.MULTILINE)
    assert len(commands) >= 6
    for command in commands:
        assert cli.main(command.split()) == 0, command
    assert len(list((tmp_path / "out" / "masks").iterdir())) == 10
    assert len(list((tmp_path / "out2" / "masks").iterdir())) == 3
    page = (ROOT / "docs" / "beam.md").read_text()
    (program,) = re.findall(r"^```python\n(.+?)^```", page, re.MULTILINE | re.DOTALL)
    exec(program, {"__name__": "readme"})
    masks = [sorted((tmp_path / out / "masks").iterdir()) for out in ("out", "out3")]
    assert [p.read_bytes() for p in masks[0]] == [p.read_bytes() for p in masks[1]]


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make ([\w-]+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        assert link.startswith("http") or (page.parent / link).exists(), link


def test_flags_in_the_readme_exist(capsys: pytest.CaptureFixture[str]) -> None:
    known = {"--help", "--runner", "--direct_num_workers"}  # Beam's, but for the first
    known |= {"--project", "--region", "--temp_location", "--sdk_container_image"}
    (commands,) = (a for a in command_line.parser()._actions if isinstance(a.choices, dict))
    assert isinstance(commands.choices, dict)
    for command in commands.choices:
        with pytest.raises(SystemExit):
            cli.main([command, "--help"])
        known |= set(re.findall(r"--\w+", capsys.readouterr().out))
    assert set(re.findall(r"(?<![\w-])--[a-z]\w+", README)) - known == set()


def test_the_card_in_the_readme_is_the_one_that_comes_along() -> None:
    card, _ = re.findall(r"^```yaml\n(.+?)^```", README, re.MULTILINE | re.DOTALL)
    shipped = (ROOT / "models" / "cards" / "biggan_tfhub.yaml").read_text()
    assert card == re.sub(r"^#.*\n", "", shipped, flags=re.MULTILINE)


def test_no_path_of_one_machine() -> None:
    assert os.path.dirname(sys.executable) not in README

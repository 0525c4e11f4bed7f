"""The demo: packs, segments, compares, and ends with the report's path."""

from pathlib import Path

import pytest

from pipeline import cli


def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "with a space"
    assert cli.main(["demo", "--output", str(out), "--scenes", "16"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"report: {out}/segmented/report.html"
    assert Path(lines[-1].removeprefix("report: ")).stat().st_size > 10_000
    score = next(line for line in lines if "mean IoU" in line)
    assert float(score.split()[-1]) > 0.5
    assert cli.main(["verify", str(out / "segmented")]) == 0
    assert cli.main(["demo", "--output", str(out), "--scenes", "16"]) == 0, "a second time"

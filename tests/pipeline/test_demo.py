"""The demo: packs, segments, compares, generates, and ends with the reports' paths."""

from pathlib import Path

import pytest

from pipeline import cli


def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "with a space"
    command = ["demo", "--output", str(out), "--scenes", "16", "--digits", "100"]
    assert cli.main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    for line, name in zip(lines[-2:], ("segmented", "generated"), strict=True):
        assert line == f"report: {out}/{name}/report.html"
        assert Path(line.removeprefix("report: ")).stat().st_size > 10_000
    report = (out / "generated" / "report.html").read_text()
    assert "Scorecard" in report
    assert "cannot be shown" not in report
    score = next(line for line in lines if "mean IoU" in line)
    assert float(score.split()[-1]) > 0.5
    assert cli.main(["verify", str(out / "segmented")]) == 0
    assert cli.main(["verify", str(out / "generated")]) == 0
    assert cli.main(command) == 0, "a second time"

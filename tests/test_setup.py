"""setup.py: what Beam's --setup_file sends to workers is whole."""

import subprocess
import sys
import tarfile
from pathlib import Path
from shutil import copytree, ignore_patterns

ROOT = Path(__file__).parent.parent


def test_the_source_distribution_has_code_model_and_template(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copytree(ROOT, copy, ignore=ignore_patterns(".*", "*.egg-info", "demo_out", "__pycache__"))
    command = [sys.executable, "setup.py", "-q", "sdist", "--dist-dir", str(tmp_path / "dist")]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (archive,) = (tmp_path / "dist").iterdir()
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    for package in ("pipeline", "transforms", "models"):
        wanted = {
            str(path.relative_to(ROOT))
            for path in (ROOT / package).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        assert wanted <= names, wanted - names

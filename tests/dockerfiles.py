"""Reading a Dockerfile, and doing what its last stage says where no container engine is."""

import dataclasses
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Step:
    """One instruction: RUN, COPY ..., and the rest of its lines in one."""

    name: str
    rest: str


def steps(dockerfile: str) -> list[Step]:
    """All instructions of a Dockerfile."""
    lines = [line for line in dockerfile.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    pairs = (line.split(None, 1) for line in joined.splitlines() if line.strip())
    return [Step(name.upper(), " ".join(rest.split())) for name, rest in pairs]


class Sandbox:
    """A folder that stands for the root of a container, with a virtual environment of its own.

    It borrows the packages of this interpreter, so that what is installed in the same version is
    not installed again; everything else is done in earnest.
    """

    def __init__(self, root: Path, **arguments: str) -> None:
        self.root, self._workdir, self._arguments = root, root, arguments
        venv.create(root / "venv", with_pip=False)
        (packages,) = (root / "venv").glob("lib/python3*/site-packages")
        borrowed = [path for path in sys.path if path.endswith("site-packages")]
        (packages / "borrowed.pth").write_text("\n".join(borrowed))
        pip = root / "venv" / "bin" / "pip"  # of the borrowed packages
        pip.write_text(
            f"#!{root}/venv/bin/python\n"
            "import sys\nfrom pip._internal.cli.main import main\nsys.exit(main())\n"
        )
        pip.chmod(0o755)
        kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
        self.environment = {**kept, "PATH": f"{root}/venv/bin:{os.environ['PATH']}"}

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Runs a shell command where a RUN would."""
        return subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=self._workdir,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def do(self, step: Step, context: Path) -> None:
        """Does what an instruction of the last stage says; fails as a build would."""
        words = step.rest.split()
        match step.name:
            case "WORKDIR":
                self._workdir = self.root / words[0].lstrip("/")
                self._workdir.mkdir(parents=True, exist_ok=True)
            case "ARG":
                name, _, value = step.rest.partition("=")
                self.environment[name] = self._arguments.get(name, value)
            case "ENV":
                name, _, value = step.rest.partition("=")
                self.environment[name] = value
            case "COPY" if not words[0].startswith("--"):
                for source in words[:-1]:
                    self._copy(context / source, words[-1], many=len(words) > 2)
            case "RUN":
                done = self.run(step.rest)
                assert done.returncode == 0, f"{step}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"

    def _copy(self, source: Path, target: str, many: bool) -> None:
        to = self.root / target[1:] if target.startswith("/") else self._workdir / target
        if source.is_dir():
            shutil.copytree(source, to, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, to / source.name if many else to)


def pinned(lock: str) -> dict[str, str]:
    """Versions of a lock file by name."""
    return dict(re.findall(r"^([\w.-]+)==([\w.]+)", lock, re.MULTILINE))

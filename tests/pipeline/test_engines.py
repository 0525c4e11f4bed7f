"""The same job on every engine that runs here: in memory, threads, processes, a job service."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import Segment, commits, content

from pipeline import cli

PROCESSES = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")
THREADS = ("--direct_running_mode=multi_threading", "--direct_num_workers=2")
SUBPROCESS = "beam:env:harness_subprocess_python:v1"
WORKER = f"{sys.executable} -m apache_beam.runners.worker.sdk_worker_main"


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    """200 pictures of four sizes in 10 TFRecord shards."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(7)
    for index in range(200):
        height, width = [(48, 64), (64, 48), (56, 56), (33, 71)][index % 4]
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{index:03d}.png", compress_level=1)
    out = str(tmp_path_factory.mktemp("packed") / "out")
    assert cli.main(["pack", "--input", str(root), "--output", out, "--images_per_shard=20"]) == 0
    return f"{out}/images"


@pytest.fixture(scope="module")
def usual(shards: str, tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the job gives in memory, in this process."""
    out = tmp_path_factory.mktemp("usual") / "out"
    assert (
        cli.main(["segment", "--input", shards, "--output", str(out), "--model", tiny_model]) == 0
    )
    return content(out)


@contextlib.contextmanager
def server(*module_and_arguments: str, path: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """A Python module that serves until the block ends, `path` before the others of PATH."""
    process = subprocess.Popen(
        [sys.executable, "-m", *module_and_arguments],
        env={**os.environ, "PATH": f"{path}:{os.environ['PATH']}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(happened: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("localhost", port)) == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def service(tmp_path: Path) -> Iterator[list[str]]:
    """Beam's local job service; the flags that name it."""
    port_file = tmp_path / "port"
    with server(
        "apache_beam.runners.portability.local_job_service_main",
        f"--port_file={port_file}",
        f"--staging_dir={tmp_path / 'staged'}",
    ):
        wait_for(port_file.exists)
        yield ["--runner=PortableRunner", f"--job_endpoint=localhost:{port_file.read_text()}"]


@contextlib.contextmanager
def worker_pool(path: str = "") -> Iterator[list[str]]:
    """A pool that starts worker processes when it is asked; the flags that name it."""
    port = free_port()
    module = "apache_beam.runners.worker.worker_pool_main"
    path = path or str(Path(sys.executable).parent)
    with server(module, f"--service_port={port}", path=path):
        wait_for(lambda: listens(port))
        yield ["--environment_type=EXTERNAL", f"--environment_config=localhost:{port}"]


def workers(out: Path) -> set[int]:
    """The processes that committed a shard."""
    records = [json.loads(path.read_bytes()) for path in out.glob("metrics/*.json")]
    return {int(record["clock"]["process"].rpartition(":")[2]) for record in records}


def test_threads(shards: str, usual: dict[str, str], segment: Segment, tmp_path: Path) -> None:
    assert segment(shards, tmp_path / "out", *THREADS) == 0
    assert content(tmp_path / "out") == usual
    assert workers(tmp_path / "out") == {os.getpid()}


@pytest.mark.slow
def test_processes(shards: str, usual: dict[str, str], segment: Segment, tmp_path: Path) -> None:
    assert segment(shards, tmp_path / "out", *PROCESSES) == 0
    assert content(tmp_path / "out") == usual
    found = workers(tmp_path / "out")
    assert len(found) == 2 and os.getpid() not in found


@pytest.mark.slow
def test_job_service_with_a_worker_pool(
    shards: str, usual: dict[str, str], segment: Segment, service: list[str], tmp_path: Path
) -> None:
    with worker_pool() as pool:
        assert segment(shards, tmp_path / "out", *service, *pool) == 0
    assert content(tmp_path / "out") == usual
    assert len(workers(tmp_path / "out") - {os.getpid()}) == 1


@pytest.mark.slow
def test_job_service_with_a_subprocess(
    shards: str, usual: dict[str, str], segment: Segment, service: list[str], tmp_path: Path
) -> None:
    worker = [f"--environment_type={SUBPROCESS}", f"--environment_config={WORKER}"]
    assert segment(shards, tmp_path / "out", *service, *worker) == 0
    assert content(tmp_path / "out") == usual
    assert len(workers(tmp_path / "out") - {os.getpid()}) == 1


@contextlib.contextmanager
def killing_a_worker(out: Path) -> Iterator[None]:
    """While the block runs, kills the worker process that commits the first shard."""

    def kill() -> None:
        while not over.wait(0.002):
            if found := [pid for pid in workers(out) if pid != os.getpid()]:
                os.kill(found[0], signal.SIGKILL)
                return

    over = threading.Event()
    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["processes", "worker pool", "subprocess"])
def test_a_killed_worker_is_an_error_and_the_same_command_goes_on(
    engine: str,
    shards: str,
    usual: dict[str, str],
    segment: Segment,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    with contextlib.ExitStack() as stack:
        more = list(PROCESSES)
        if engine != "processes":
            more = list(request.getfixturevalue("service"))
            more += (
                stack.enter_context(worker_pool())
                if engine == "worker pool"
                else [f"--environment_type={SUBPROCESS}", f"--environment_config={WORKER}"]
            )
        with killing_a_worker(out):
            assert segment(shards, out, *more) == 1
    assert "the same command goes on" in capsys.readouterr().err
    before = commits(out)
    assert 0 < len(before) < 10
    assert segment(shards, out) == 0
    assert before.items() <= commits(out).items(), "a committed shard was done again"
    assert content(out) == usual
    assert cli.main(["verify", str(out)]) == 0


def test_a_worker_process_that_cannot_start_is_an_error(
    shards: str,
    segment: Segment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))  # of the processes that are started
    assert segment(shards, tmp_path / "out", *PROCESSES) == 1
    assert "a worker process could not go on" in capsys.readouterr().err


@pytest.mark.parametrize(
    "worker, message",
    [
        ("pool without python", "no worker has begun within 3 s"),
        ("command that fails", "no worker has begun within 3 s"),
        ("nobody there", "failed to connect"),
        ("PROCESS", "beam:env:process:v1"),
    ],
)
def test_workers_of_a_service_that_cannot_start_are_an_error(
    worker: str,
    message: str,
    shards: str,
    segment: Segment,
    service: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    more = {
        "command that fails": [f"--environment_type={SUBPROCESS}", "--environment_config=false"],
        "nobody there": ["--environment_type=EXTERNAL", "--environment_config=localhost:9"],
        "PROCESS": ["--environment_type=PROCESS", '--environment_config={"command": "false"}'],
    }
    with contextlib.ExitStack() as stack:
        if worker not in more:
            (tmp_path / "bin").mkdir()
            (tmp_path / "bin" / "python").symlink_to("/bin/false")
            more[worker] = stack.enter_context(worker_pool(str(tmp_path / "bin")))
        wait = "--worker_start_timeout_s=3"
        assert segment(shards, tmp_path / "out", *service, *more[worker], wait) == 1
    assert message in capsys.readouterr().err


def test_no_job_service_is_said_at_once(
    shards: str, segment: Segment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--runner=PortableRunner", f"--job_endpoint=localhost:{free_port()}"]
    assert segment(shards, tmp_path / "out", *flags) == 2
    assert "no job service answers there" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

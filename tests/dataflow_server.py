"""A Dataflow for tests: takes job requests on this machine, and says of jobs what a test wants.

Beam's client speaks plain HTTP to an endpoint whose name contains "localhost", and gRPC with TLS to
any other. Nothing is run: `requests` are what the real service would have got, and their graphs lie
where they were staged (see `staged_graph` and `run_staged`).
"""

import dataclasses
import json
import re
import subprocess
import sys
import threading
import venv
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from apache_beam.portability.api import beam_runner_api_pb2
from gcs_server import GcsServer

_JOBS = re.compile(r"/v1b3/projects/(?P<project>[^/]+)/locations/(?P<region>[^/]+)/jobs")
_JOB = re.compile(_JOBS.pattern + r"/(?P<id>[^/?]+)(?P<what>/messages|/metrics)?")


@dataclasses.dataclass(frozen=True)
class Request:
    """A job request: the project and region of its path, and its body."""

    project: str
    region: str
    job: dict[str, Any]

    @property
    def pool(self) -> dict[str, Any]:
        """Its only worker pool."""
        (pool,) = self.job["environment"]["workerPools"]
        found: dict[str, Any] = pool
        return found

    @property
    def options(self) -> dict[str, Any]:
        """All pipeline options, as Dataflow's page shows them."""
        found: dict[str, Any] = self.job["environment"]["sdkPipelineOptions"]["options"]
        return found

    @property
    def graph_path(self) -> str:
        """Where its graph is staged."""
        return str(self.options["pipelineUrl"])


class DataflowServer:
    """The server. `states` are what a job is in when it is asked for, one after another; the last
    stays."""

    def __init__(self) -> None:
        self.reset()
        outer = self

        class Handler(_Handler):
            server_is = outer

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.endpoint = f"http://localhost:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, name="dataflow", daemon=True).start()

    def reset(self) -> None:
        self.requests: list[Request] = []
        self.states = ["JOB_STATE_RUNNING", "JOB_STATE_DONE"]
        self.active: dict[str, dict[str, Any]] = {}  # jobs by name

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    @property
    def flags(self) -> list[str]:
        """What sends a job here, with the least that a launch needs."""
        return [
            "--runner=DataflowRunner",
            f"--dataflow_endpoint={self.endpoint}",
            "--project=test-project",
            "--region=us-central1",
            "--temp_location=gs://bucket/tmp",
        ]

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """Status and body of an answer."""
        if method == "POST" and (found := _JOBS.fullmatch(path)):
            if body["name"] in self.active:  # which Beam tells by the id of its request
                return 200, self.active[body["name"]]
            self.requests.append(Request(found["project"], found["region"], body))
            made = self._job(body, len(self.requests), "JOB_STATE_PENDING")
            self.active[body["name"]] = made
            return 200, made
        if not (found := _JOB.fullmatch(path)):
            return 404, {"error": {"code": 404, "message": f"no such method: {method} {path}"}}
        if found["what"]:
            return 200, {}
        number = int(found["id"].rpartition("-")[2])
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return 200, self._job(self.requests[number - 1].job, number, state)

    def _job(self, body: dict[str, Any], number: int, state: str) -> dict[str, Any]:
        return {
            "id": f"2026-11-25_00_00_00-{number}",
            "name": body["name"],
            "clientRequestId": body.get("clientRequestId", ""),
            "projectId": "test-project",
            "location": "us-central1",
            "currentState": state,
            "currentStateTime": "2026-11-25T00:00:00Z",
        }


class _Handler(BaseHTTPRequestHandler):
    server_is: DataflowServer

    def _serve(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        status, fields = self.server_is.answer(self.command, path, json.loads(data or b"{}"))
        body = json.dumps(fields).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = _serve  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Nothing: pytest's output is for results."""


def staged_graph(gcs: GcsServer, request: Request) -> beam_runner_api_pb2.Pipeline:
    """The graph that the service would run."""
    graph = gcs.get(request.graph_path.removeprefix("gs://bucket/"))
    return beam_runner_api_pb2.Pipeline.FromString(graph)


def hints_by_step(graph: beam_runner_api_pb2.Pipeline) -> dict[str, dict[str, bytes]]:
    """Resource hints of all steps that have some, by their names."""
    hinted = {}
    for step in graph.components.transforms.values():
        environment = graph.components.environments.get(step.environment_id)
        if environment is not None and environment.resource_hints:
            hinted[step.unique_name] = {
                urn.split(":")[2]: value for urn, value in environment.resource_hints.items()
            }
    return hinted


_RUN_STAGED = """
import sys
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.environments import SubprocessSDKEnvironment
import pipeline

path, workers = sys.argv[1:]
graph = beam_runner_api_pb2.Pipeline.FromString(open(path, "rb").read())
command = f"{sys.executable} -m apache_beam.runners.worker.sdk_worker_main"
for environment in graph.components.environments.values():
    made = SubprocessSDKEnvironment(command, environment.capabilities).to_runner_api(None)
    environment.CopyFrom(made)
runner = FnApiRunner()
runner._num_workers = int(workers)
result = runner.run_via_runner_api(graph, PipelineOptions([]))
result.wait_until_finish()
print(result.state, pipeline.__file__)
"""


def clean_environment(folder: Path, package: bytes) -> Path:
    """A virtual environment with pixelmill from its source distribution, and for all else the
    packages of this one. Returns its Python."""
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / "bin" / "python"
    (archive := folder / "workflow.tar.gz").write_bytes(package)
    (packages,) = (folder / "env").glob("lib/python*/site-packages")
    # A folder of a path file is no site folder: what is installed there for editing stays unseen.
    folders = [path for path in sys.path if path.endswith("-packages")]
    (packages / "heavy.pth").write_text("\n".join(folders) + "\n")
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps"]
    install += ["--no-build-isolation", "--no-index", "--disable-pip-version-check", str(archive)]
    subprocess.run(install, check=True, cwd=folder, capture_output=True, timeout=120)
    return python


def run_staged(
    python: Path, graph: bytes, folder: Path, environment: dict[str, str], workers: int = 2
) -> Sequence[str]:
    """Runs a staged graph by worker processes of a Python; returns the words that it ends with:
    its state, and the file of the package pipeline."""
    (path := folder / "pipeline.pb").write_bytes(graph)
    command = [str(python), "-c", _RUN_STAGED, str(path), str(workers)]
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.split()[-2:]

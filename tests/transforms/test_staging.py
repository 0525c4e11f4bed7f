"""Models are fetched to this machine once per process, whole, and go with the process."""

import glob
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from gcs_server import GcsServer

from models.errors import ModelError
from models.signatures import fingerprint
from transforms import scratch, staging

FILES = {"saved_model.pb": b"graph", "variables/variables.index": b"i", "assets/a b.txt": b""}


def put(gcs: GcsServer, prefix: str, text: str = "") -> None:
    for name, data in FILES.items():
        gcs.put(f"{prefix}/{name}", data + text.encode())


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "_staged", {})


def files(folder: str) -> dict[str, bytes]:
    root = Path(folder)
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_a_local_model_stays_where_it_is(tmp_path: Path) -> None:
    assert staging.local_model(str(tmp_path)) == str(tmp_path)


def test_a_model_is_fetched_whole_and_once(gcs: GcsServer) -> None:
    put(gcs, "models/net")
    gcs.fail(status=503, path="^/download")
    found = staging.local_model("gs://bucket/models/net")
    assert files(found) == FILES and os.path.basename(found) == "net"
    gcs.log.clear()
    assert staging.local_model("gs://bucket/models/net") == found
    assert gcs.log == []


def test_the_newest_version_is_fetched_whole_and_the_others_are_named(gcs: GcsServer) -> None:
    for version in ("1", "9", "10"):
        put(gcs, f"net/{version}", version)
    found = files(staging.local_model("gs://bucket/net"))
    assert {f"10/{name}": data + b"10" for name, data in FILES.items()}.items() <= found.items()
    assert sorted(set(found) - {f"10/{name}" for name in FILES}) == [
        "1/saved_model.pb",
        "9/saved_model.pb",
    ]
    gcs.log.clear()
    newest = staging.local_model("gs://bucket/net/10")
    assert files(newest) == {name: data + b"10" for name, data in FILES.items()}
    assert gcs.log == [], "it was there already"
    assert files(staging.local_model("gs://bucket/net/1"))["assets/a b.txt"] == b"1"


def test_a_model_that_was_changed_since_the_run_began_is_refused(gcs: GcsServer) -> None:
    put(gcs, "net")
    began_with = fingerprint(staging.local_model("gs://bucket/net"))
    staging._staged.clear()
    assert staging.local_model("gs://bucket/net", began_with)
    staging._staged.clear()
    put(gcs, "net", "changed")
    with pytest.raises(ModelError, match="changed since the run began"):
        staging.local_model("gs://bucket/net", began_with)


def test_what_cannot_be_fetched_is_named(gcs: GcsServer) -> None:
    with pytest.raises(ModelError, match="gs://bucket/none: there is no such folder"):
        staging.local_model("gs://bucket/none")
    put(gcs, "net")
    gcs.fail(status=403, path="^/download.*index", message="no access")
    with pytest.raises(ModelError, match=r"variables\.index: .*403 GET: no access"):
        staging.local_model("gs://bucket/net")


def test_the_folder_goes_with_its_process_and_that_of_a_killed_one_with_the_next() -> None:
    code = "from transforms import scratch; import os, sys; print(scratch.folder(), flush=True); "

    def run(more: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code + more], capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    mine = scratch.folder()
    assert not os.path.exists(run(""))
    left = run("os.kill(os.getpid(), 9)")
    assert os.path.exists(left)
    run("")
    assert not os.path.exists(left)
    assert os.path.exists(mine), "that of a live process was taken"
    assert mine in glob.glob(os.path.join(tempfile.gettempdir(), "pixelmill-*"))

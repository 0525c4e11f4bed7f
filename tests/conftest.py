"""Settings and fixtures of all tests: a Google Cloud Storage on this machine."""

from collections.abc import Iterator

import hypothesis
import pytest
from dataflow_server import DataflowServer
from gcs_server import GcsServer

# no deadline: a busy machine is no failure
hypothesis.settings.register_profile("pixelmill", deadline=None)
hypothesis.settings.load_profile("pixelmill")


@pytest.fixture(scope="session")
def _gcs_server() -> Iterator[GcsServer]:
    server = GcsServer()
    yield server
    server.close()


@pytest.fixture
def gcs(_gcs_server: GcsServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[GcsServer]:
    """An empty bucket, gs://bucket, for this process and those that it starts."""
    from transforms import gcs_calls

    _gcs_server.reset()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", _gcs_server.url)
    gcs_calls._client.cache_clear()
    gcs_calls._failing.clear()
    yield _gcs_server
    _gcs_server.reset()
    gcs_calls._client.cache_clear()


@pytest.fixture(scope="session")
def _dataflow_server() -> Iterator[DataflowServer]:
    server = DataflowServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def _service_account(
    _gcs_server: GcsServer, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, str]:
    return _gcs_server.service_account(tmp_path_factory.mktemp("account"))


@pytest.fixture
def dataflow(
    gcs: GcsServer,
    _dataflow_server: DataflowServer,
    _service_account: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> DataflowServer:
    """A Dataflow that takes jobs and runs nothing; with the bucket, and credentials for both."""
    from apache_beam.internal.gcp import auth

    _dataflow_server.reset()
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", _service_account[1])
    monkeypatch.setattr(auth._Credentials, "_credentials_init", False)
    return _dataflow_server

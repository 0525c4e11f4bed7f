"""Fixtures of all tests: a Google Cloud Storage on this machine."""

from collections.abc import Iterator

import pytest
from gcs_server import GcsServer


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

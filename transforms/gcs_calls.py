"""Calling Google Cloud Storage: who we are, what is tried again, and errors that help."""

import contextlib
import errno
import functools
import http.client
import os
import queue
import random
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import google.auth
import requests
import urllib3
from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.auth.credentials import AnonymousCredentials
from google.auth.transport.requests import AuthorizedSession
from google.cloud import storage
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from requests.adapters import HTTPAdapter

from transforms.storage import NO_AUTH

T = TypeVar("T")

DEADLINE_S = 120.0
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.25, 10.0
_FORGET_S = 300.0
_CONNECTIONS = 64
_CREDENTIALS_S = 8.0  # google.auth asks a server that may not be there, for 20 s
_BROKEN = (
    requests.exceptions.ConnectionError,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.Timeout,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    ConnectionError,
    auth.TransportError,
    DataCorruption,
)


class Broken(ConnectionError):
    """An answer that is not what was asked for, such as a part of it."""


def client() -> storage.Client:
    """The client of this process. Raises OSError when there are no credentials."""
    return _client(os.getpid(), bool(os.environ.get(NO_AUTH)))


@functools.cache
def _client(pid: int, anonymous: bool) -> storage.Client:
    emulated = os.environ.get("STORAGE_EMULATOR_HOST")
    if anonymous or emulated:
        credentials: Any = AnonymousCredentials()
        session = AuthorizedSession(credentials, refresh_status_codes=())
    else:
        credentials = _credentials()
        session = AuthorizedSession(credentials)
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(_CONNECTIONS, _CONNECTIONS))
    return storage.Client(project=None, credentials=credentials, _http=session)


def _credentials() -> Any:
    """As Google's libraries find them, but not for long. Raises PermissionError."""
    found: queue.Queue[Any] = queue.Queue()

    def find() -> None:
        try:
            found.put(google.auth.default(scopes=storage.Client.SCOPE)[0])
        except auth.GoogleAuthError as error:
            found.put(error)

    threading.Thread(target=find, name="credentials", daemon=True).start()
    try:
        answer = found.get(timeout=_CREDENTIALS_S)
    except queue.Empty:
        answer = f"none found in {_CREDENTIALS_S:g} s"
    if isinstance(answer, str | Exception):
        raise PermissionError(errno.EACCES, _no_credentials(str(answer)))
    return answer


def _no_credentials(why: str) -> str:
    return (
        f"no Google credentials ({' '.join(why.split())[:200]}); `gcloud auth application-default "
        "login` makes some, GOOGLE_APPLICATION_CREDENTIALS names a file of them, and --no_auth "
        "does without, for public buckets"
    )


_failing: dict[str, tuple[float, float]] = {}  # by bucket: first and last try without an answer


def call(
    path: str,
    request: Callable[[], T],
    deadline_s: float | None = None,
    refused: tuple[type[Exception], ...] = (),
) -> T:
    """Makes a request, again and again where that may help.

    Args:
        path: what it is about, for messages.
        request: must be safe to repeat.
        deadline_s: from the first failure, of this call or of the bucket since it last answered;
            default DEADLINE_S.
        refused: answers that the caller understands; raised as they are.

    Raises:
        FileNotFoundError, PermissionError: at once.
        TimeoutError: the deadline has passed; it names the path and the last cause.
        OSError: anything else that the service says.
    """
    limit = DEADLINE_S if deadline_s is None else deadline_s
    bucket = path.partition("://")[2].partition("/")[0]
    tries, began = 0, None
    while True:
        try:
            answer = request()
            _failing.pop(bucket, None)
            return answer
        except refused:
            _failing.pop(bucket, None)
            raise
        except Exception as error:  # the libraries below raise a dozen kinds
            if not transient(error):
                if isinstance(error, OSError) and not isinstance(error, requests.RequestException):
                    raise  # made here: no credentials, or a full disk
                raise os_error(error, path) from error
            cause = error
        tries += 1
        began = began or time.monotonic()
        failing_s = max(_failing_s(bucket), time.monotonic() - began)
        if failing_s >= limit:
            raise TimeoutError(
                errno.ETIMEDOUT, f"{said(cause)}; gave up after {tries} tries", path
            ) from cause
        wait_s = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2**tries) * random.uniform(0.5, 1.0)
        time.sleep(min(wait_s, limit - failing_s))


def _failing_s(bucket: str) -> float:
    """For how long a bucket has not answered; all tries of this process count."""
    now = time.monotonic()
    first, last = _failing.get(bucket, (now, now))
    if now - last > _FORGET_S:  # nobody has asked for long
        first = now
    _failing[bucket] = (first, now)
    return now - first


def transient(error: BaseException) -> bool:
    """Whether the same request may succeed later."""
    status = _status(error)
    if status is not None:
        return status in (408, 429) or status >= 500
    if isinstance(error, auth.RefreshError):
        return bool(error.retryable)
    return isinstance(error, _BROKEN)


def _status(error: BaseException) -> int | None:
    if isinstance(error, DataCorruption):
        return None
    if isinstance(error, InvalidResponse):
        return int(error.response.status_code)
    code = error.code if isinstance(error, api.GoogleAPICallError) else None
    return None if code is None else int(code)


def os_error(error: Exception, path: str) -> OSError:
    """An error of Google's libraries as one of the system's, which says what to do."""
    status = _status(error)
    if status == 404:
        return FileNotFoundError(
            errno.ENOENT, f"there is no such bucket or object ({said(error)})", path
        )
    if status in (401, 403):
        who = "anonymous, by --no_auth" if os.environ.get(NO_AUTH) else _account()
        return PermissionError(errno.EACCES, f"not allowed for {who} ({said(error)})", path)
    if isinstance(error, auth.GoogleAuthError):
        return PermissionError(errno.EACCES, _no_credentials(said(error)), path)
    return OSError(errno.EIO, said(error), path)


def _account() -> str:
    credentials = client()._credentials
    return str(getattr(credentials, "service_account_email", None) or "these credentials")


def said(error: BaseException) -> str:
    """One line of an error's text, with the status if the service answered."""
    status = _status(error)
    if status is None:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    text = str(getattr(error, "message", None) or error)
    response = getattr(error, "response", None)
    if response is not None:
        with contextlib.suppress(Exception):  # no JSON, as of a proxy, or none at all
            text = f"{response.request.method}: {response.json()['error']['message']}"
    return f"{status} {' '.join(text.split())[:300]}"

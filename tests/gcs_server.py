"""A Google Cloud Storage for tests: on this machine, in memory, and as unreliable as is wanted.

gcp-storage-emulator keeps the objects. Here it gets what it lacks of the real service, and what the
tests are about:

- preconditions (ifGenerationMatch and the like) on uploads, also on the last request of a resumable
  one, on deletions, and on reads; the generation of a read
- lists by pages, with startOffset and endOffset
- resumable uploads that may be repeated: bytes that are there already are skipped, and a finished
  session answers again, as the real service does
- answers to "not found" that say what; bodies of uploads that are any bytes
- faults: refused, slow, cut, truncated, and "stored, but the answer is lost"
- a token endpoint, and a log of all requests

The emulator's insides are private: its version is pinned.
"""

import contextlib
import dataclasses
import io
import json
import os
import random
import re
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from gcp_storage_emulator import server as emulator
from gcp_storage_emulator.handlers import buckets, objects
from gcp_storage_emulator.storage import Storage

ALWAYS = 1 << 60
# The client asks for this in a thread, once, and does not mind what comes back.
_FOR_TRACES = re.compile(r"/storage/v1/b/[^/?]+\?")


@dataclasses.dataclass
class Fault:
    """What happens to requests that fit, as often as `times` says.

    Attributes:
        method, path: regular expressions; the path is unquoted and has its query.
        status: answered instead, with `message`; 0 for a connection that is closed.
        stored: the request is carried out first, so that only its answer is lost.
        delay_s: before anything else.
        after: how many requests pass unharmed before.
        truncate: the answer is the true one, but its body breaks off in the middle.
    """

    method: str = ".*"
    path: str = ".*"
    times: int = 1
    status: int | None = None
    message: str = "injected"
    stored: bool = False
    delay_s: float = 0.0
    truncate: bool = False
    after: int = 0

    def fits(self, method: str, path: str) -> bool:
        return (
            self.times > 0
            and re.fullmatch(self.method, method) is not None
            and re.search(self.path, path) is not None
        )


CUT = Fault(status=0)
LOST = Fault(status=0, stored=True)
CHAOS = (
    Fault(status=503),
    Fault(status=429),
    Fault(status=500, stored=True),
    CUT,
    LOST,
    Fault(truncate=True),
    Fault(delay_s=0.2),
)


class GcsServer:
    """The server, and what tests do to it. `hook(number, "before" | "after", method, path)` is
    called around every request, in the thread that serves it."""

    def __init__(self) -> None:
        self.storage = Storage(use_memory_fs=True)
        self.lock = threading.RLock()
        self.page_size = 1000
        self.reset()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, name="gcs", daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def reset(self) -> None:
        """An empty bucket named "bucket", and no faults."""
        with self.lock:
            self.storage.wipe()
            buckets.create_bucket("bucket", self.storage)
            self.log: list[tuple[str, str]] = []
            self.faults: list[Fault] = []
            self.finished: dict[str, dict[str, Any]] = {}
            self.hook: Callable[[int, str, str, str], None] | None = None
            self.page_size = 1000
            self._chaos: tuple[float, random.Random] | None = None
            self.faulty = 0  # requests that met a fault

    def fail(self, **fault: Any) -> Fault:
        """Adds a fault."""
        made = Fault(**fault)
        self.faults.append(made)
        return made

    def chaos(self, share: float, seed: int = 0) -> None:
        """From now on a share of all requests meets some fault of CHAOS."""
        self._chaos = (share, random.Random(seed))

    def pick(self, method: str, path: str) -> Fault | None:
        """The fault that a request meets, if any; notes the request."""
        with self.lock:
            self.log.append((method, path))
            for fault in self.faults:
                if fault.fits(method, path):
                    if fault.after > 0:
                        fault.after -= 1
                        continue
                    fault.times -= 1
                    self.faulty += 1
                    return fault
            if self._chaos is not None and self._chaos[1].random() < self._chaos[0]:
                self.faulty += 1
                return self._chaos[1].choice(CHAOS)
        return None

    def at(self, number: int, fault: Fault) -> None:
        """From now on the request with this number, counted from 0, meets a fault, and no other."""
        with self.lock:
            self.log.clear()
            self.faults = [dataclasses.replace(fault, after=number, times=1)]
            self.faulty = 0

    def kill_at(self, number: int, when: str) -> list[BaseProcess]:
        """Kills the process that is put into the list, before or after a request is carried out.

        Requests are counted from 1, from now on.
        """
        found: list[BaseProcess] = []

        def kill(at: int, moment: str, _method: str, _path: str) -> None:
            if (at, moment) == (number, when):
                while not found:
                    time.sleep(0.001)
                os.kill(found[0].pid or 0, signal.SIGKILL)
                stat = Path(f"/proc/{found[0].pid}/stat")
                with contextlib.suppress(OSError):  # who started it has waited for it
                    while stat.read_text().rpartition(")")[2][1] != "Z":
                        time.sleep(0.001)

        self.log.clear()
        self.hook = kill
        return found

    def delete_all(self, prefix: str) -> None:
        for name in self.names(prefix):
            self.delete(name)

    def put(self, name: str, data: bytes) -> None:
        """Makes an object of the bucket."""
        found = objects._make_object_resource(
            "", "bucket", name, "application/octet-stream", str(len(data))
        )
        with self.lock:
            self.storage.create_file("bucket", name, data, objects._checksums(data, found))

    def get(self, name: str) -> bytes:
        data: bytes = self.storage.get_file("bucket", name, show_error=False)
        return data

    def delete(self, name: str) -> None:
        with self.lock:
            self.storage.delete_file("bucket", name)

    def upload(self, folder: str | Path, prefix: str) -> None:
        """Makes objects of all files below a folder."""
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder)}", path.read_bytes())

    def download(self, prefix: str, folder: str | Path) -> Path:
        """Makes files of all objects behind a prefix."""
        for name in self.names(f"{prefix}/"):
            path = Path(folder) / name[len(prefix) + 1 :]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.get(name))
        return Path(folder)

    def service_account(self, folder: Path) -> tuple[str, str]:
        """A service account whose tokens come from this server: its name, and its key file."""
        key = rsa.generate_private_key(65537, 2048).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        fields = {
            "type": "service_account",
            "project_id": "test-project",
            "client_email": "robot@test-project.iam.gserviceaccount.com",
            "private_key": key.decode(),
            "token_uri": f"{self.url}/token",
        }
        file = folder / "service_account.json"
        file.write_text(json.dumps(fields))
        return fields["client_email"], str(file)

    def generation(self, name: str) -> int:
        return int(self.storage.objects["bucket"][name]["generation"])

    def names(self, prefix: str = "") -> list[str]:
        with self.lock:
            return sorted(n for n in self.storage.objects.get("bucket", {}) if n.startswith(prefix))


class _Handler(emulator.RequestHandler):  # type: ignore[misc]
    # 1.1 would need every body to be read whatever is answered
    protocol_version = "HTTP/1.0"

    def __init__(self, gcs: GcsServer, *args: Any) -> None:
        self.gcs = gcs
        super().__init__(gcs.storage, *args)

    def _serve(self, method: str) -> None:
        gcs, path = self.gcs, unquote(self.path)
        if _FOR_TRACES.match(path):
            self.wfile.write(self._carry_out(method))
            return
        fault = gcs.pick(method, path)
        number, hook = len(gcs.log), gcs.hook
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.rfile = io.BytesIO(body)  # a fault may be answered without looking at it
        if fault is not None and fault.delay_s:
            time.sleep(fault.delay_s)
        if hook is not None:
            hook(number, "before", method, path)
        answer = b""
        if fault is None or fault.status is None or fault.stored:
            answer = self._carry_out(method)
        if hook is not None:
            hook(number, "after", method, path)
        if fault is not None and fault.status is not None:
            answer = _error(fault.status, fault.message) if fault.status else b""
        if fault is not None and fault.truncate:
            head, _, content = answer.partition(b"\r\n\r\n")
            answer = head + b"\r\n\r\n" + content[: len(content) // 2]
        self.wfile.write(answer)

    def _carry_out(self, method: str) -> bytes:
        if self.path == "/token":
            return _json(200, {"access_token": "fake", "expires_in": 3600, "token_type": "Bearer"})
        to_client, self.wfile = self.wfile, io.BytesIO()
        try:
            with self.gcs.lock, _Patched(self.gcs):
                emulator.Router(self).handle(method)
            return bytes(self.wfile.getvalue())
        finally:
            self.wfile = to_client

    def do_GET(self) -> None:  # noqa: N802
        self._serve("GET")

    def do_POST(self) -> None:  # noqa: N802
        self._serve("POST")

    def do_PUT(self) -> None:  # noqa: N802
        self._serve("PUT")

    def do_DELETE(self) -> None:  # noqa: N802
        self._serve("DELETE")

    def do_PATCH(self) -> None:  # noqa: N802
        self._serve("PATCH")


def _json(status: int, fields: Any) -> bytes:
    body = json.dumps(fields).encode()
    head = (
        f"HTTP/1.0 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _error(status: int, message: str) -> bytes:
    return _json(status, _error_fields(status, message))


def _error_fields(status: int, message: str) -> dict[str, Any]:
    errors = [{"domain": "global", "reason": "injected", "message": message}]
    return {"error": {"code": status, "message": message, "errors": errors}}


# What the emulator's handlers lack. They are looked up in emulator.HANDLERS at every request.


class _Patched:
    """Routes requests to the handlers below while one is served."""

    def __init__(self, gcs: GcsServer) -> None:
        self._gcs = gcs

    def __enter__(self) -> None:
        self._before = emulator.HANDLERS, emulator._read_data
        changed = {handler: _guarded(handler) for handler in _CONDITIONAL}
        changed[objects.ls] = partial(_list, self._gcs)
        changed[objects.upload_partial] = partial(_upload_partial, self._gcs)
        emulator.HANDLERS = tuple(
            (route, {method: changed.get(handler, handler) for method, handler in by.items()})
            for route, by in emulator.HANDLERS
        )
        emulator._read_data = _read_data

    def __exit__(self, *_: object) -> None:
        emulator.HANDLERS, emulator._read_data = self._before


_CONDITIONAL = (
    *(objects.insert, objects.get, objects.download, objects.delete, objects.patch),
    *(objects.compose, objects.copy, objects.rewrite),
)
_CONDITIONS = {
    "ifGenerationMatch": ("generation", True),
    "ifGenerationNotMatch": ("generation", False),
    "ifMetagenerationMatch": ("metageneration", True),
    "ifMetagenerationNotMatch": ("metageneration", False),
}


def _broken_condition(storage: Storage, query: Any, bucket: str, name: str) -> str | None:
    found = storage.objects.get(bucket, {}).get(name) or {}
    for condition, (field, wanted) in _CONDITIONS.items():
        if condition in query:
            equal = int(query[condition][0]) == int(found.get(field, 0))
            if equal is not wanted:
                return condition
    return None


def _refuse(response: Any, condition: str) -> None:
    response.status = HTTPStatus.PRECONDITION_FAILED
    message = "At least one of the pre-conditions you specified did not hold."
    response.json(_error_fields(412, f"{message} {condition}"))


def _guarded(handler: Any) -> Any:
    def guarded(request: Any, response: Any, storage: Storage, *args: Any, **kwargs: Any) -> None:
        params = request.params
        bucket = params.get("dest_bucket_name") or params["bucket_name"]
        name = params.get("dest_object_id") or params.get("object_id")
        if name is None:
            data = request.data
            fields = data.get("meta", data) if isinstance(data, dict) else {}
            name = (request.query.get("name") or [fields.get("name")])[0]
        found = storage.objects.get(bucket, {}).get(name)
        wanted = request.query.get("generation", [None])[0]
        reads = handler in (objects.get, objects.download)
        if reads and found and wanted not in (None, found["generation"]):
            response.status = HTTPStatus.NOT_FOUND
        if response.status == HTTPStatus.OK:
            if (condition := _broken_condition(storage, request.query, bucket, name)) is not None:
                return _refuse(response, condition)
            handler(request, response, storage, *args, **kwargs)
        if response.status == HTTPStatus.NOT_FOUND:
            response.json(_error_fields(404, _not_found(storage, bucket, name)))
        return None

    return guarded


def _not_found(storage: Storage, bucket: str, name: str) -> str:
    if bucket not in storage.buckets:
        return "The specified bucket does not exist."
    return f"No such object: {bucket}/{name}"


def _list(gcs: GcsServer, request: Any, response: Any, storage: Storage, **_: Any) -> None:
    objects.ls(request, response, storage)
    if response.status != HTTPStatus.OK:
        bucket = request.params["bucket_name"]
        return response.json(_error_fields(404, _not_found(storage, bucket, "")))  # type: ignore[no-any-return]

    def asked(name: str) -> str | None:
        return (request.query.get(name) or [None])[0]  # type: ignore[no-any-return]

    answer = json.loads(response._content)
    items = sorted(answer.get("items") or [], key=lambda item: item["name"])
    if (start := asked("startOffset")) is not None:
        items = [item for item in items if item["name"] >= start]
    if (end := asked("endOffset")) is not None:
        items = [item for item in items if item["name"] < end]
    if (token := asked("pageToken")) is not None:
        items = [item for item in items if item["name"] > token]
        answer["prefixes"] = []
    size = min(int(asked("maxResults") or gcs.page_size), gcs.page_size)
    if len(items) > size:
        items = items[:size]
        answer["nextPageToken"] = items[-1]["name"]
    answer["items"] = items
    return response.json(answer)  # type: ignore[no-any-return]


def _upload_partial(
    gcs: GcsServer, request: Any, response: Any, storage: Storage, **_: Any
) -> None:
    """A chunk of a resumable upload, or a question how far it is."""
    upload = request.query["upload_id"][0]
    if upload in gcs.finished:
        return response.json(gcs.finished[upload])  # type: ignore[no-any-return]
    found = storage.get_resumable_file_obj(upload)
    parsed = objects._parse_resumable_content_range(request.get_header("Content-Range", "") or "")
    chunk = request.data or b""
    if parsed is not None and parsed["kind"] == "chunk":
        there = storage.get_resumable_byte_count(upload)
        chunk = chunk[max(0, there - parsed["start"]) :]  # bytes that came before are skipped
        parsed["start"] = max(there, parsed["start"])
        data = objects._handle_resumable_chunk(response, storage, upload, chunk, parsed)
    elif parsed is not None:
        return objects._handle_resumable_status(  # type: ignore[no-any-return]
            response, storage, upload, found, parsed["total"]
        )
    else:
        data = chunk
    if data is None:
        return None
    query = parse_qs(urlparse(request._request_handler.path).query)
    condition = _broken_condition(storage, query, found["bucket"], found["name"])
    if condition is not None:
        return _refuse(response, condition)
    objects._finalize_resumable_object(response, storage, found, data, upload)
    gcs.finished[upload] = storage.get_file_obj(found["bucket"], found["name"])
    return None


_READ_DATA = emulator._read_data


def _read_data(handler: Any, query: Any) -> Any:
    """The emulator's parser of e-mails changes line ends in uploads of two parts."""
    kind = handler.headers.get("Content-Type") or ""
    if not kind.startswith("multipart/related"):
        return _READ_DATA(handler, query)
    boundary = re.search(r'boundary="?([^";]+)"?', kind)
    assert boundary is not None
    parts = emulator._read_raw_data(handler).split(b"--" + boundary[1].encode())[1:-1]
    heads, bodies = zip(*(part.split(b"\r\n\r\n", 1) for part in parts), strict=True)
    found = re.search(rb"(?im)^content-type:\s*([^\r\n;]+)", heads[1])
    return {
        "meta": json.loads(bodies[0]),
        "content": bodies[1][:-2],
        "content-type": found[1].decode() if found else "application/octet-stream",
    }

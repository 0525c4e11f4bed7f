"""A SavedModel on this machine's disk: TensorFlow is never given gs:// or the like.

Its own reader of gs:// knows no emulator, no anonymous access and no end of retries. A model is
fetched once per process, into a folder that goes with the process (see scratch).
"""

import os
import re
import tempfile
import threading

from models.errors import ModelError, UserError
from models.signatures import fingerprint as fingerprint_of
from transforms import paths, scratch, storage

_PROTO = "saved_model.pb"
_lock = threading.Lock()
_staged: dict[tuple[int, str], str] = {}  # by process, for forks have no right to each other's


def local_model(path: str, fingerprint: str = "") -> str:
    """A local folder with the SavedModel at a path; the path itself when it is local.

    Of a folder of numbered versions the newest is fetched, and of the others what names them.

    Args:
        fingerprint: what a run began with; "" to take what is there.

    Raises:
        ModelError: it cannot be read, or is not the one that the run began with.
    """
    if not storage.is_remote(path):
        return path
    with _lock:
        key = (os.getpid(), path)
        if key not in _staged:
            try:
                _staged.update(((key[0], place), local) for place, local in _fetch(path).items())
            except OSError as error:
                where = error.filename or path
                raise ModelError(f"cannot read the model at {where}: {error.strerror}") from error
            if fingerprint and (found := fingerprint_of(_staged[key])) != fingerprint:
                del _staged[key]
                raise ModelError(
                    f"{path} was changed since the run began: its fingerprint is {found[:16]}, "
                    f"it was {fingerprint[:16]}; start a new run with a new --output"
                )
        return _staged[key]


def _fetch(path: str) -> dict[str, str]:
    """Where the model at a path is now, and its newest version if it is a folder of some."""
    names = [name for name, size in storage.list_files(path) if size >= 0]
    if not names:
        raise ModelError(f"{path}: there is no such folder, expected one with a saved_model.pb")
    newest = _newest(names)
    # all of the model, or of its newest version; of others below the file that makes them one
    wanted = [
        name
        for name in names
        if _PROTO in names
        or (newest and name.startswith(f"{newest}/"))
        or re.fullmatch(rf"[^/]+/{_PROTO}", name)
    ]
    # the folder's own name is kept, for texts and cards
    above = tempfile.mkdtemp(prefix="model-", dir=scratch.folder())
    target = os.path.join(above, os.path.basename(path))
    os.mkdir(target)
    storage.fetch(path, wanted, target)
    return {path: target} | ({f"{path}/{newest}": f"{target}/{newest}"} if newest else {})


def _newest(names: list[str]) -> str:
    """The newest of numbered versions, "" if the folder is itself a model, or none."""
    versions = [name.partition("/")[0] for name in names if re.fullmatch(rf"[0-9]+/{_PROTO}", name)]
    return "" if _PROTO in names else max(versions, key=int, default="")


def remote_name(local: str, staged: str, path: str) -> str:
    """What a person knows a file or folder of a staged model as."""
    return path if local == staged else f"{path}/{paths.relative(local, staged)}"


def local_file(path: str) -> str:
    """A local copy of a small file that a person named, such as a card; local ones as they are.

    Raises:
        UserError: it cannot be read.
    """
    if not storage.is_remote(path):
        return path
    target = os.path.join(scratch.folder(), f"file-{storage.crc32c(path.encode())}")
    try:
        os.makedirs(target, exist_ok=True)
        storage.fetch(paths.parent(path), [os.path.basename(path)], target)
    except OSError as error:
        raise UserError(f"cannot read {error.filename or path}: {error.strerror}") from error
    return os.path.join(target, os.path.basename(path))

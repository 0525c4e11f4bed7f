"""A folder on this machine's disk for one process: models that it fetched, files that it uploads.

It goes when the process ends; what a killed process left, the next one on the machine removes. Who
is alive is told by a lock on a file in the folder, which the system drops with its process.
"""

import atexit
import contextlib
import fcntl
import functools
import glob
import os
import shutil
import tempfile

_PREFIX = "pixelmill-"
_LOCK = ".lock"


def folder() -> str:
    """This process's folder. Raises OSError."""
    return _folder(os.getpid())


@functools.cache
def _folder(pid: int) -> str:  # a fork has another pid, and gets a folder of its own
    _sweep()
    path = tempfile.mkdtemp(prefix=_PREFIX)
    descriptor = os.open(os.path.join(path, _LOCK), os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)  # held until the process ends, however it does
    atexit.register(_remove, path, pid)
    return path


def _remove(path: str, pid: int) -> None:
    if os.getpid() == pid:
        shutil.rmtree(path, ignore_errors=True)


def _sweep() -> None:
    """Removes folders of processes that have ended."""
    for path in glob.glob(os.path.join(glob.escape(tempfile.gettempdir()), f"{_PREFIX}*", _LOCK)):
        with contextlib.suppress(OSError):  # somebody else's, or just being removed
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(os.path.dirname(path), ignore_errors=True)
            finally:
                os.close(descriptor)

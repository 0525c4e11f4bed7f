"""Paths as text: of local files, and of objects as scheme://place/name with "/" between parts."""

import os
from collections.abc import Sequence

from models.errors import UserError


def scheme(path: str) -> str:
    """The scheme in lower case, "gs" for gs://bucket/name; "" for a local path."""
    found, separator, _ = path.partition("://")
    return found.lower() if separator else ""


def absolute(path: str) -> str:
    """A path in its one form: local ones absolute, those of objects without a slash at the end.

    Raises:
        UserError: a path of an object has no bucket, or an empty part, "." or "..".
    """
    kind = scheme(path)
    if kind == "file":
        path = path[len("file://") :]
    if kind in ("", "file"):
        return os.path.abspath(os.path.expanduser(path))
    rest = path.partition("://")[2].rstrip("/")
    if {"", ".", ".."} & set(rest.split("/")):
        raise UserError(f"{path}: expected {kind}://BUCKET/NAME, without empty parts, . or ..")
    return f"{kind}://{rest}"


def parent(path: str) -> str:
    """The folder of a path; a bucket, and "/", are their own."""
    kind = scheme(path)
    if not kind:
        return os.path.dirname(path)
    head, slash, _ = path.partition("://")[2].rpartition("/")
    return f"{kind}://{head}" if slash else path


def common_folder(paths: Sequence[str]) -> str:
    """The deepest folder that all paths are or lie below.

    Raises:
        UserError: there is none, such as for two buckets.
    """
    kind = scheme(paths[0])
    if not kind and not any(map(scheme, paths)):
        return os.path.commonpath(paths)
    rests = [path.partition("://")[2].split("/") for path in paths]
    shared: list[str] = []
    for parts in zip(*rests, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    if not shared or {scheme(path) for path in paths} != {kind}:
        raise UserError(
            f"{paths[0]} and {paths[-1]} have no folder in common; give inputs of one bucket"
        )
    return f"{kind}://{'/'.join(shared)}"


def relative(path: str, root: str) -> str:
    """A path relative to a folder that it lies below."""
    if not scheme(root):
        return os.path.relpath(path, root)
    return path[len(root) + 1 :]

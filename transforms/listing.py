"""Finding the files that a person names after --input: folders, globs, lists, name@N."""

import dataclasses
import fnmatch
import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from models.errors import UserError
from transforms import paths, storage
from transforms.shard_names import EXTENSIONS, expand_at_count, format_of, split_at_count

IMAGE_EXTENSIONS = (
    *(".avif", ".bmp", ".dib", ".gif", ".ico", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"),
    *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
)
LIST_EXTENSION = ".list"
AUTO, FOLDER = "auto", "folder"
TABLES = ("metadata.jsonl", "metadata.csv")
_RANGE = re.compile(r"\{(\d{1,9})\.\.(\d{1,9})\}")
_NO_INPUT = ("records/", "rejected/", "reference/", "retries/")  # in OUT of a run
_MOST_LISTS = 8  # that name one another
_THREADS = 16


class InputError(UserError):
    """The input cannot be planned: a message for the person who asked, with the way out."""


@dataclasses.dataclass(frozen=True)
class Listing:
    """Files found for an input: (path relative to root, size in bytes), sorted.

    `ignored` are other files below a folder, and links and pipes, which are never followed.
    `tables` are files below a folder that tell of its images, metadata.jsonl or metadata.csv.
    `format` is the one that was asked for, "auto" for what the names say.
    """

    root: str
    files: tuple[tuple[str, int], ...]
    ignored: tuple[str, ...] = ()
    format: str = AUTO
    tables: tuple[str, ...] = ()


def list_input(pattern: str, out: str | None = None, input_format: str = AUTO) -> Listing:
    """Finds the files that a pattern names.

    Args:
        pattern: a folder, a file, a glob ("**" for any depth), `name.tfrecord@10`,
            `name-{00..09}.tar`, or several of these joined by commas. A folder takes the images or
            shards below it; a glob takes all that it matches. A file named *.list names files, see
            read_list.
        out: where results go. What lies there is no input, or a second run would differ.
        input_format: "tfrecord", "tar" or "parquet", whatever the names of files; "folder" for
            image files; "auto" goes by the names.

    Raises:
        InputError: nothing found, or unreadable.
    """
    parts = [part.strip() for part in pattern.split(",") if part.strip()]
    if not parts:
        raise InputError("--input is empty: give a folder, a glob or a list of shards")
    parts = [paths.absolute(part) for part in parts]
    found: dict[str, int] = {}
    ignored: list[str] = []
    tables: list[str] = []
    for part in parts:
        try:
            files, others = _list_one(part, input_format)
        except OSError as error:
            raise InputError(f"cannot read {error.filename or part}: {error.strerror}") from error
        found.update(files)
        tables.extend(f"{part}/{name}" for name in others if os.path.basename(name) in TABLES)
        ignored.extend(name for name in others if os.path.basename(name) not in TABLES)
    if out is not None:
        outside = {path: size for path, size in found.items() if not path.startswith(f"{out}/")}
        if not outside:
            raise InputError(f"all of {pattern} lies in --output {out}; choose another --output")
        found = outside
    root = paths.common_folder([fixed_folder(part) for part in parts])
    relative = sorted((paths.relative(path, root), size) for path, size in found.items())
    return Listing(root, tuple(relative), tuple(ignored), input_format, tuple(tables))


def _list_one(path: str, input_format: str) -> tuple[dict[str, int], list[str]]:
    if storage.is_folder(path):
        return _list_folder(path, input_format)
    if storage.is_file(path):
        if path.endswith(LIST_EXTENSION):
            return _list_listed(path), []
        return {path: storage.size_bytes(path)}, []
    if (span := _RANGE.search(path)) is not None:
        return _ranged(path, span, input_format), []
    if (numbered := split_at_count(path)) is not None:
        return {name: storage.size_bytes(name) for name in _numbered(*numbered)}, []
    matches = _matches(path)
    if not matches:
        if not glob.has_magic(path):
            raise InputError(f"{path}: there is no such file or folder")
        raise InputError(f"no files match {path}; check the path, and quote a glob")
    return matches, []


def _ranged(path: str, span: re.Match[str], input_format: str) -> dict[str, int]:
    """Files of a range of numbers, `shard-{000000..000099}.tar`, as WebDataset has it."""
    first, last = int(span[1]), int(span[2])
    if last < first:
        raise InputError(f"{path} names no files: {first} to {last}")
    found: dict[str, int] = {}
    for number in range(first, last + 1):
        one = f"{path[: span.start()]}{number:0{len(span[1])}d}{path[span.end() :]}"
        found.update(_list_one(one, input_format)[0])
    return found


def read_list(path: str) -> list[str]:
    """The files that a list names: one a line, relative to the list's folder, "#" for comments.

    A line that is itself a list is followed, so that one small file can point to the newest list.

    Raises:
        InputError: a line leaves the folder, or lists go round in a circle.
        OSError: a list cannot be read.
    """
    for _ in range(_MOST_LISTS):
        lines = storage.read_bytes(path).decode("utf-8", "surrogateescape").splitlines()
        names = [line for line in lines if line.strip() and not line.startswith("#")]
        for name in names:
            if (
                paths.scheme(name)
                or name.startswith("/")
                or not {".", "..", ""}.isdisjoint(name.split("/"))
            ):
                raise InputError(
                    f"{path} names {name!r}; expected paths below its folder, without . and .."
                )
        files = [f"{paths.parent(path)}/{name}" for name in names]
        if len(files) != 1 or not files[0].endswith(LIST_EXTENSION):
            return files
        path = files[0]
    raise InputError(f"{path}: over {_MOST_LISTS} lists name one another")


def _list_listed(path: str) -> dict[str, int]:
    files = read_list(path)
    if not files:
        raise InputError(f"{path} names no files")
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(files, pool.map(storage.size_bytes, files), strict=True))


def _matches(pattern: str) -> dict[str, int]:
    """Files that a glob matches, with their sizes in bytes."""
    if not storage.is_remote(pattern):
        found = (path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path))
        return {path: storage.size_bytes(path) for path in _without_loops(found)}
    folder = fixed_folder(pattern)
    parts = pattern[len(folder) + 1 :].split("/")
    return {
        f"{folder}/{name}": size
        for name, size in storage.list_files(folder)
        if size >= 0 and _fits(name.split("/"), parts)
    }


def _fits(names: Sequence[str], parts: Sequence[str]) -> bool:
    """Whether the parts of a path fit those of a glob, as glob.glob has it: ** for any depth."""
    if not parts or not names:
        return not names and all(part == "**" for part in parts)
    if parts[0] == "**":
        return _fits(names, parts[1:]) or _fits(names[1:], parts)
    return fnmatch.fnmatchcase(names[0], parts[0]) and _fits(names[1:], parts[1:])


def _without_loops(paths: Iterable[str]) -> list[str]:
    """Of folders that are one folder, by links, only the one with the shortest path is kept."""
    found = sorted(paths, key=lambda path: (path.count("/"), path))
    home: dict[str, str] = {}
    for path in found:
        folder = os.path.dirname(path)
        home.setdefault(os.path.realpath(folder), folder)
    return [p for p in found if home[os.path.realpath(os.path.dirname(p))] == os.path.dirname(p)]


def _list_folder(path: str, input_format: str) -> tuple[dict[str, int], list[str]]:
    files = list(storage.list_files(path))
    if "run.json" in (name for name, _ in files):  # OUT of a run: its tables are no shards
        files = [file for file in files if not file[0].startswith(_NO_INPUT)]
    kinds = {name: _kind(name) for name, size in files if size >= 0}
    wanted = set(kinds.values()) - {None}
    if input_format != AUTO:
        wanted &= {input_format}
    elif len(wanted) > 1:
        wanted.discard("parquet")  # then a table that tells of the others, such as metadata.parquet
    known = {f"{path}/{name}": size for name, size in files if kinds.get(name) in wanted}
    if not known:
        extensions = " ".join(e for listed in EXTENSIONS.values() for e in listed)
        asked = "" if input_format == AUTO else f" of --input_format={input_format}"
        raise InputError(
            f"{path} holds {len(files)} files, but no images ({' '.join(IMAGE_EXTENSIONS)}) and no "
            f"shards ({extensions}, also with .gz){asked}; for other names give a glob, which "
            "takes all that it matches, and --input_format"
        )
    return known, [name for name, _ in files if f"{path}/{name}" not in known]


def _kind(path: str) -> str | None:
    """The format of a file below a folder, by its name."""
    return FOLDER if is_image_name(path) else format_of(os.path.basename(path))


def _numbered(base: str, count: int) -> Iterator[str]:
    if count < 1:
        raise InputError(f"{base}@{count} names no shard; the number after @ is how many there are")
    for index, names in enumerate(expand_at_count(base, count)):
        found = next((name for name in names if storage.is_file(name)), None)
        if found is None:
            raise InputError(
                f"{base}@{count} names {count} shards, but shard {index} is missing; "
                f"looked for {' and '.join(os.path.basename(name) for name in names[:2])}"
            )
        yield found


def fixed_folder(part: str) -> str:
    """The folder that names are relative to: the part of a pattern without wildcards."""
    path = paths.absolute(part)
    if storage.is_folder(path):  # a folder may have a name that looks like a glob
        return path
    while glob.has_magic(path) or not storage.is_folder(path):
        if (above := paths.parent(path)) == path:
            break
        path = above
    return path


def is_image_name(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in IMAGE_EXTENSIONS

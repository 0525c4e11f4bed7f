"""Where an export goes: a new folder, in which every file is created once and appears whole."""

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import IO

from models.errors import UserError
from transforms import storage


class Target:
    """A folder that was empty. Raises UserError when it is not."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        storage.check_place(folder, writes=True)
        first = next(storage.list_files(folder), None) if storage.is_folder(folder) else None
        if first is not None:
            raise UserError(
                f"{folder} is not empty (there is {storage.as_text(first[0])}); an export never "
                "replaces files: name another folder, or delete this one if its export was "
                "interrupted"
            )

    def create(self, path: str, data: bytes) -> None:
        """Writes a file. Raises OSError when it is there already."""
        if not storage.create_once(self.folder, path, data):
            raise OSError(
                errno.EEXIST, "it is there already: does another export write here?", path
            )

    @contextlib.contextmanager
    def growing(self, path: str) -> Iterator[IO[bytes]]:
        """A file that is written piece by piece, and appears when the block ends well."""
        temporary = storage.temporary_path(self.folder, os.path.basename(path))
        final = os.path.join(self.folder, path)

        def may_replace() -> None:
            raise OSError(
                errno.EEXIST, "it is there already: does another export write here?", path
            )

        try:
            with storage.open_new(temporary) as file:
                yield file
                storage.sync(file)
                storage.publish(temporary, final, may_replace)
        finally:
            storage.delete(temporary)

    def finish(self) -> None:
        """Leaves nothing of its own behind."""
        storage.delete_dead(self.folder)
        with contextlib.suppress(OSError):
            os.rmdir(os.path.join(self.folder, storage.TEMPORARY))


class JsonLists:
    """A JSON object whose lists grow one item at a time, in bounded memory.

    Each list is a file of its own until `write`, which joins them.
    """

    def __init__(self, target: Target, path: str, names: tuple[str, ...]) -> None:
        self._target, self._path, self._names = target, path, names
        self._stack = contextlib.ExitStack()
        self._parts: dict[str, tuple[str, IO[bytes]]] = {}
        self._counts = dict.fromkeys(names, 0)

    def __enter__(self) -> "JsonLists":
        for name in self._names:
            temporary = storage.temporary_path(self._target.folder, name)
            self._stack.callback(storage.delete, temporary)
            self._parts[name] = (temporary, self._stack.enter_context(storage.open_new(temporary)))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, name: str, item: bytes) -> None:
        self._parts[name][1].write((b",\n" if self._counts[name] else b"\n") + item)
        self._counts[name] += 1

    def write(self, rest: bytes) -> None:
        """Writes the file: the members of `rest`, a JSON object without its braces, come first."""
        with self._target.growing(self._path) as file:
            file.write(b"{" + rest)
            for name in self._names:
                temporary, part = self._parts[name]
                part.flush()
                file.write(b',\n"' + name.encode() + b'": [')
                with open(temporary, "rb") as source:
                    while data := source.read(1 << 20):
                        file.write(data)
                file.write(b"]")
            file.write(b"}\n")

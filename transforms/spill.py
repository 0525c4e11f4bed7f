"""Lines put aside by number, in a local folder: more of them than memory holds."""

import os


class Spill:
    """Takes lines in any order of their numbers; gives those of a number in the order of coming."""

    def __init__(self, folder: str, most_bytes: int = 64 << 20) -> None:
        """
        Args:
            folder: empty, for this alone.
            most_bytes: that are kept in memory.
        """
        self._folder = folder
        self._most_bytes = most_bytes
        self._lines: dict[int, list[bytes]] = {}
        self._size = 0

    def add(self, number: int, line: bytes) -> None:
        """Takes a line, without its end. Raises OSError."""
        self._lines.setdefault(number, []).append(line + b"\n")
        self._size += len(line) + 1
        if self._size > self._most_bytes:
            self._flush()

    def read(self, number: int) -> bytes:
        """All lines of a number. Raises OSError."""
        self._flush()
        try:
            with open(self._path(number), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return b""

    def _flush(self) -> None:
        for number, lines in self._lines.items():
            with open(self._path(number), "ab") as file:
                file.writelines(lines)
        self._lines.clear()
        self._size = 0

    def _path(self, number: int) -> str:
        return os.path.join(self._folder, str(number))

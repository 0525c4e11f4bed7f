"""WebDataset: tar archives, plain or gzip, whose members of one name make a record.

    a/b.jpg            the picture: image/encoded
    a/b.seg.png        the mask: image/segmentation/class/encoded
    a/b.confidence.png image/segmentation/confidence/encoded
    a/b.cls            the label, an integer: image/class/label
    a/b.features.json  all other features (see plain.py); {"member": FIELD} for those in members
    a/b.x.y            a feature x.y of bytes

The key is the name up to the first dot behind the last slash, the field what follows, in lower
case. In archives of others, without features.json, the key becomes image/filename; the picture is
what has the extension of one, masks are told by the usual names, other members are kept as bytes.

Header fields are constant, so that equal records give equal archives.
"""

import gzip
import io
import json
import re
import tarfile
from collections.abc import Iterator
from typing import IO, Any

from transforms.formats import base
from transforms.formats.base import BadRecord, ExampleWriter
from transforms.formats.pictures import UniqueNames, extension_of, safe_name
from transforms.formats.plain import (
    bytes_feature,
    from_plain,
    int_feature,
    parsed,
    serialized,
    single_bytes,
    to_plain,
)
from transforms.formats.tar_members import BLOCK_BYTES, Damage, Member, read_members
from transforms.formats.unpacked import unpacked
from transforms.listing import IMAGE_EXTENSIONS

EXTENSION = ".tar"
_FEATURES = "features.json"
_PICTURES = frozenset(extension[1:] for extension in IMAGE_EXTENSIONS)
_MASKS = frozenset(
    ("seg", "mask", "masks", "segmentation", "label", "labels", "target", "annotation", "gt")
)
# Fields with a meaning in WebDataset: bytes features of such names are members of these names.
_FIELDS = re.compile(
    r"(?:[a-z0-9_]+\.)*(?:txt|text|json|npy|npz|pth|mp3|wav|flac|xml|csv|bin)"
    rf"|(?:[a-z0-9_]+\.)+(?:{'|'.join(sorted(_PICTURES))})"
)
_TEXT_BYTES = 4096  # longer texts are members of their own
_NAME = re.compile(r"((?:.*/|)[^./]+)\.([^/]+)", re.DOTALL)


def read_examples(file: IO[bytes]) -> Iterator[bytes | BadRecord]:
    """See ShardFormat. A damaged or forbidden member costs its record."""
    sample = _Sample("")
    for member in read_members(unpacked(file)):
        if isinstance(member, Damage):
            if member.last:
                if sample.key and (sample.problem or member.behind):
                    yield sample.example()
                yield BadRecord(member.message, last=True)
                return
            if sample.key:  # members of this record may be among what is lost
                sample.problem = sample.problem or member.message
            else:
                yield BadRecord(member.message, last=False)
            continue
        if (split := _split(member)) is None:
            continue
        key, field = split
        if key != sample.key:
            if sample.key:
                yield sample.example()
            sample = _Sample(key)
        sample.add(field, member)
    if sample.key:
        yield sample.example()


def _split(member: Member) -> tuple[str, str] | None:
    """Key and field of a member; None when it belongs to no record by the rules of the format."""
    match = _NAME.fullmatch(member.name)
    if match is None:
        return (member.name or "?", "") if member.problem else None
    return match[1], match[2].lower()


class _Sample:
    """The members of one record, as they come."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.fields: dict[str, bytes] = {}
        self.problem = ""
        self._size = 0

    def add(self, field: str, member: Member) -> None:
        self._size += len(member.data)
        problem = member.problem or _forbidden(member.name)
        if not problem and field in self.fields:
            problem = "it is there twice"
        if problem:
            self.problem = self.problem or f"member {member.name[:200]!r}: {problem}"
        elif self._size > base.MAX_RECORD_BYTES:
            self.problem = f"its members have over the {base.MAX_RECORD_BYTES:,} bytes allowed"
            self.fields.clear()
        else:
            self.fields[field] = member.data

    def example(self) -> bytes | BadRecord:
        """The record as a serialized tf.Example."""
        if self.problem:
            return BadRecord(f"record {self.key[:200]!r}: {self.problem}", last=False)
        try:
            if _FEATURES in self.fields:
                return serialized(_told(dict(self.fields)))
            return serialized(_guessed(self.key, self.fields))
        except (ValueError, RecursionError) as error:
            what = (
                f"{_FEATURES} is damaged" if _FEATURES in self.fields else "its names are no text"
            )
            return BadRecord(f"record {self.key[:200]!r}: {what}: {error}", last=False)


def _forbidden(name: str) -> str:
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:[\\/]", name):
        return "its name is an absolute path"
    if ".." in re.split(r"[/\\]", name):
        return "its name leads out of the archive"
    return "its name holds a zero byte" if "\0" in name else ""


def _told(fields: dict[str, bytes]) -> dict[str, Any]:
    """Features of a record that pixelmill wrote. Raises ValueError."""
    table = json.loads(fields.pop(_FEATURES))
    if not isinstance(table, dict):
        raise ValueError("it is no object")
    features: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, dict) and "member" in value:
            if (data := fields.pop(str(value["member"]), None)) is None:
                raise ValueError(f"there is no member {value['member']!r} for {name!r}")
            features[name] = (
                _number(data) if value.get("kind") == "int64" else bytes_feature([data])
            )
            if features[name] is None:
                raise ValueError(f"member {value['member']!r} is no integer")
        else:
            features[name] = from_plain(value, typed=True)
    others = {field: bytes_feature([data]) for field, data in fields.items()}
    return others | {name: f for name, f in features.items() if f is not None}


def _guessed(key: str, fields: dict[str, bytes]) -> dict[str, Any]:
    """Features of a record of others."""
    rest = dict(fields)
    named = {base.NAME: bytes_feature([key.encode("utf-8", "surrogateescape")])}
    pictures = [field for field in rest if field.rpartition(".")[2] in _PICTURES]
    masks = [
        f
        for f in [*pictures, *rest]
        if f.partition(".")[0] in _MASKS and extension_of(rest[f]) != "bin"
    ]
    others = [field for field in pictures if field not in masks]
    images = [f for f in others if "." not in f] or others
    if images:
        named[base.IMAGE] = bytes_feature([rest.pop(images[0])])
    if masks:
        named[base.MASK] = bytes_feature([rest.pop(masks[0])])
    if "cls" in rest and (label := _number(rest["cls"])) is not None:
        named[base.LABEL] = label
        del rest["cls"]
    return {field: bytes_feature([data]) for field, data in rest.items()} | named


def _number(data: bytes) -> Any:
    text = data.strip()
    return int_feature([int(text)]) if re.fullmatch(rb"-?\d{1,18}", text) else None


class _Writer:
    """Appends records as groups of members."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._names = UniqueNames()
        self._size = self._count = 0

    def write(self, example: bytes) -> None:
        features = parsed(example)
        name = single_bytes(features[base.NAME]) if base.NAME in features else None
        text = f"{self._count:08d}" if name is None else name.decode("utf-8", "backslashreplace")
        key = self._names.unique(safe_name(text, IMAGE_EXTENSIONS))
        for field, data in members_of(features).items():
            self._add(f"{key}.{field}", data)
        self._count += 1

    def _add(self, name: str, data: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(data), 0o444
        header = info.tobuf(tarfile.PAX_FORMAT)  # plain USTAR where that holds the name
        padding = bytes(-len(data) % BLOCK_BYTES)
        for part in (header, data, padding):
            self._file.write(part)
            self._size += len(part)

    def finish(self) -> None:
        self._size += self._file.write(bytes(2 * BLOCK_BYTES))
        self._file.write(bytes(-self._size % tarfile.RECORDSIZE))

    def close(self) -> None:
        """Nothing was put aside."""


def members_of(features: dict[str, Any]) -> dict[str, bytes]:
    """The members of a record by field, features.json last."""
    members: dict[str, bytes] = {}
    table: dict[str, Any] = {}
    pictures = {base.MASK: "seg", base.CONFIDENCE: "confidence"}
    for name in sorted(features, key=lambda name: (name != base.IMAGE, name not in pictures, name)):
        feature = features[name]
        data = single_bytes(feature)
        if data is None:
            if name == base.LABEL and len(feature.int64_list.value) == 1:
                members["cls"] = str(feature.int64_list.value[0]).encode()
                table[name] = {"member": "cls", "kind": "int64"}
            else:
                table[name] = to_plain(feature)
            continue
        if name == base.IMAGE:
            field = extension_of(data)
        elif name in pictures:
            field = f"{pictures[name]}.{extension_of(data)}"
        elif _FIELDS.fullmatch(name) and name not in (_FEATURES, *members):
            members[name] = data
            continue
        elif _is_text(data):
            table[name] = data.decode()
            continue
        else:
            stem = re.sub(r"[^a-z0-9_]+", "_", name.lower()).strip("_")[:40] or "feature"
            field = f"{stem}.{extension_of(data)}"
        while field in members or field in features:
            field = f"_{field}"
        members[field] = data
        table[name] = {"member": field}
    members[_FEATURES] = json.dumps(table, sort_keys=True).encode()
    return members


def _is_text(data: bytes) -> bool:
    try:
        return len(data) <= _TEXT_BYTES and bool(data.decode() or True)
    except UnicodeDecodeError:
        return False


def open_writer(file: IO[bytes], scratch: str) -> ExampleWriter:
    """See ShardFormat."""
    return _Writer(file)


class _GzipWriter(_Writer):
    def __init__(self, file: IO[bytes]) -> None:
        self._packed = gzip.GzipFile("", "wb", 1, file, mtime=0)  # level 1: pictures are packed
        super().__init__(io.BufferedWriter(self._packed, 1 << 20))

    def finish(self) -> None:
        super().finish()
        self._file.close()


def open_gzip_writer(file: IO[bytes], scratch: str) -> ExampleWriter:
    """The same, packed by gzip."""
    return _GzipWriter(file)

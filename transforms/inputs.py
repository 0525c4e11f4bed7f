"""From what a person writes after --input to a plan: which shards there are, and what is in each.

A plan is a pure function of the listing. It is made once, in the launcher, and stored in OUT, so
that every worker, every resumed run and `verify` see the same shards, whatever the folder holds
by then.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any
from unicodedata import normalize

from transforms import storage
from transforms.beside import pair_masks, told
from transforms.cuts import bounds
from transforms.formats import parquet
from transforms.listing import AUTO, FOLDER, InputError, Listing, list_input
from transforms.shard_names import EXTENSIONS, ShardName, format_of, shard_id

FILES_PER_SHARD = 256
IMAGES, ITEMS = "images", "items"  # kinds of plans that are not of files of examples
_TFRECORD = "tfrecord"
_NAME_BYTES = 255  # of a file, on the usual file systems
_STEM_LENGTH = 100  # of a shard's name, so that all names made from it fit a file system


@dataclasses.dataclass(frozen=True)
class ImageFile:
    """One image of a virtual shard.

    Attributes:
        path: relative to the shard's root, with "/". The key of its record.
        output_name: the same without extension, or with it where two images share a stem.
        size_bytes: size when it was listed.
        mask: relative path of the mask that belongs to it, "" if none (see pair_masks).
        told: JSON of what a table tells of it, "" if nothing: features by name, see Told.
    """

    path: str
    output_name: str
    size_bytes: int
    mask: str = ""
    told: str = ""

    def to_row(self) -> list[Any]:
        """What the plan file holds of it."""
        row = [self.path, self.output_name, self.size_bytes, self.mask]
        return [*row, self.told] if self.told else row


@dataclasses.dataclass(frozen=True)
class Items:
    """Pictures that are to be made of nothing but a seed.

    Attributes:
        first: number of the first item in the run.
        labels: (label, how many) in the order of labels; (-1, how many) for a model without.
    """

    first: int
    labels: tuple[tuple[int, int], ...]

    @property
    def count(self) -> int:
        return sum(count for _, count in self.labels)


@dataclasses.dataclass(frozen=True)
class Part:
    """Records of a shard by index: some, and all from a number on if one is given."""

    indices: frozenset[int]
    onwards: int | None = None

    def __contains__(self, index: int) -> bool:
        return index in self.indices or (self.onwards is not None and index >= self.onwards)


@dataclasses.dataclass(frozen=True)
class Shard:
    """The unit of work: a file of examples, whose path is `root`, and its format; a list of image
    files below `root`; or a number of items to be made. With a `part` only those records are
    worked on."""

    name: str
    root: str
    size_bytes: int
    files: tuple[ImageFile, ...] = ()
    items: Items | None = None
    part: Part | None = None
    format: str = _TFRECORD
    groups: tuple[int, int] | None = None  # of a large Parquet file: these row groups, [a, b)

    @property
    def is_examples(self) -> bool:
        """Whether it is one file of tf.Examples, or of what becomes ones."""
        return not self.files and self.items is None

    @property
    def records(self) -> int | None:
        """How many records it has; None when only reading tells."""
        if self.items is not None:
            return self.items.count
        return len(self.files) or None

    def to_json(self) -> str:
        """One line of the plan file."""
        fields: dict[str, Any] = {
            "name": self.name,
            "root": self.root,
            "size_bytes": self.size_bytes,
        }
        if self.files:
            fields["files"] = [file.to_row() for file in self.files]
        if self.items is not None:
            fields["items"] = [self.items.first, self.items.labels]
        if self.format != _TFRECORD:
            fields["format"] = self.format
        if self.groups is not None:
            fields["groups"] = self.groups
        return json.dumps(fields, ensure_ascii=True)

    @staticmethod
    def from_json(line: str) -> "Shard":
        fields: dict[str, Any] = json.loads(line)
        files = tuple(ImageFile(*row) for row in fields.pop("files", ()))
        items = None
        if (found := fields.pop("items", None)) is not None:
            items = Items(found[0], tuple((label, count) for label, count in found[1]))
        groups = fields.pop("groups", None)
        return Shard(**fields, files=files, items=items, groups=groups and tuple(groups))


@dataclasses.dataclass(frozen=True)
class Plan:
    """All shards of a run, in order.

    Attributes:
        shards: their names are unique and safe as paths below OUT.
        kind: IMAGES, ITEMS, or the format of its files of examples.
        ignored: files below a folder that are neither images nor shards.
    """

    shards: tuple[Shard, ...]
    kind: str
    ignored: tuple[str, ...] = ()

    @property
    def is_examples(self) -> bool:
        """Whether its shards are files of examples."""
        return self.kind in EXTENSIONS

    @property
    def masks(self) -> int:
        """How many image files have a mask of their own."""
        return sum(1 for shard in self.shards for file in shard.files if file.mask)

    @property
    def size_bytes(self) -> int:
        return sum(shard.size_bytes for shard in self.shards)

    @property
    def records(self) -> int | None:
        """How many records there are; None when only reading tells."""
        counts = [shard.records for shard in self.shards]
        return None if None in counts else sum(count or 0 for count in counts)

    def to_lines(self) -> str:
        return "".join(f"{shard.to_json()}\n" for shard in self.shards)

    @staticmethod
    def from_lines(text: str) -> "Plan":
        """Raises ValueError for text that `to_lines` did not write."""
        try:
            shards = tuple(Shard.from_json(line) for line in text.splitlines())
        except (TypeError, AttributeError) as error:
            raise ValueError(f"it is no plan: {error}") from error
        return Plan.of(shards)

    @staticmethod
    def of(shards: tuple[Shard, ...]) -> "Plan":
        """A plan of shards that were planned before; their kind is what they are."""
        if any(shard.items is not None for shard in shards):
            return Plan(shards, ITEMS)
        kinds = {shard.format if shard.is_examples else IMAGES for shard in shards}
        return Plan(shards, IMAGES if IMAGES in kinds else min(kinds, default=_TFRECORD))

    def digest(self) -> str:
        """Changes when a file appears, disappears or changes its size."""
        return hashlib.sha256(self.to_lines().encode()).hexdigest()[:16]


def plan_input(
    pattern: str,
    files_per_shard: int = FILES_PER_SHARD,
    out: str | None = None,
    input_format: str = AUTO,
) -> Plan:
    """Lists an input (see list_input) and cuts it into shards (see cut)."""
    return cut(list_input(pattern, out, input_format), files_per_shard)


def cut(listing: Listing, files_per_shard: int = FILES_PER_SHARD) -> Plan:
    """Makes shards of a listing: a file of examples is one, images are cut by sorted path.

    Raises:
        InputError: several kinds are there, or two shards would have one name.
    """
    if files_per_shard < 1:
        raise InputError(f"--files_per_shard is {files_per_shard}, it must be at least 1")
    kind = _kind(listing)
    if kind == IMAGES:
        return plan_images(listing, files_per_shard)
    records = listing.files
    names = [shard_id(path) for path, _ in records]
    owner: dict[str, str] = {}
    for name, (path, _) in zip(names, records, strict=True):
        if not _is_text(name):
            raise InputError(f"the name of {os.fsencode(path)!r} is not UTF-8; rename the file")
        other = owner.setdefault(folded(name), path)
        if other != path:
            raise InputError(f"{other} and {path} would both become shard {name}; name one")
    _check_paths([f"{name}.tfrecord" for name in names])
    shards = [
        Shard(name, f"{listing.root}/{path}", size, format=kind)
        for name, (path, size) in zip(names, records, strict=True)
    ]
    if kind == "parquet":
        shards = [part for shard in shards for part in _parts(shard)]
    return Plan(tuple(shards), kind, listing.ignored)


def _parts(shard: Shard) -> list[Shard]:
    """A large Parquet file as shards of its row groups; on gs:// it stays one, for it is copied."""
    if storage.is_remote(shard.root) or shard.size_bytes < 2 * parquet.PART_BYTES:
        return [shard]
    parts = parquet.parts(shard.root)
    return [
        dataclasses.replace(
            shard, name=str(ShardName(shard.name, i, len(parts))), size_bytes=size, groups=groups
        )
        for i, (groups, size) in enumerate(parts)
    ] or [shard]


def _kind(listing: Listing) -> str:
    """The one kind of all files: as asked for, or by their names. Raises InputError."""
    if listing.format != AUTO:
        return IMAGES if listing.format == FOLDER else listing.format
    first: dict[str, str] = {}
    for path, _ in listing.files:
        first.setdefault(format_of(os.path.basename(path)) or IMAGES, path)
    if len(first) > 1:
        in_order = sorted(first.items(), key=lambda kind: kind[0] == IMAGES)
        (one, path), (other, another) = in_order[:2]
        raise InputError(
            f"the input has both {_KINDS[one]} ({path}) and {_KINDS[other]} ({another}) below "
            f"{listing.root}; name one kind, for example with a glob like '*.tfrecord', or by "
            "--input_format"
        )
    return next(iter(first))


_KINDS = {
    IMAGES: "other files",
    _TFRECORD: "TFRecord files",
    "tar": "tar archives",
    "parquet": "Parquet files",
    "array_record": "ArrayRecord files",
}


def plan_images(listing: Listing, files_per_shard: int, pair: bool = False) -> Plan:
    """Makes shards of image files, with what tables beside them tell.

    Args:
        pair: also tell masks that lie beside their images by their names (see pair_masks).

    Raises:
        InputError: a table is wrong, or two images would have one name.
    """
    found = told(listing)
    files, masks = list(found.files), dict(found.masks)
    if pair:
        files, named = pair_masks(files)
        masks = {**named, **masks}
    shards = cut_images(listing.root, files, files_per_shard, masks, found.features)
    return Plan(tuple(shards), IMAGES, listing.ignored)


def cut_images(
    root: str,
    files: Sequence[tuple[str, int]],
    files_per_shard: int | None,
    masks: Mapping[str, str] | None = None,
    features: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    most_bytes: int | None = None,
    prefix: str = "",
) -> Iterator[Shard]:
    """Cuts images into shards, see `bounds`; names of shards and files begin with `prefix`."""
    stem = prefix + safe_stem(os.path.basename(root.rstrip("/")))
    names = output_names([path for path, _ in files])
    cuts = bounds([size for _, size in files], files_per_shard, most_bytes)
    for index, (start, stop) in enumerate(pairwise(cuts)):
        images = tuple(
            ImageFile(
                path=path,
                output_name=prefix + names[path],
                size_bytes=max(0, size),  # -1 when a table names it and it is not there
                mask=(masks or {}).get(path, ""),
                told=_json((features or {}).get(path)),
            )
            for path, size in files[start:stop]
        )
        size_bytes = sum(image.size_bytes for image in images)
        yield Shard(str(ShardName(stem, index, len(cuts) - 1)), root, size_bytes, images)


def _json(found: Mapping[str, Any] | None) -> str:
    return json.dumps(found, sort_keys=True) if found else ""


def output_names(paths: Sequence[str]) -> dict[str, str]:
    """Output name of each image: its path without extension, or with it where that is not unique.

    Names that differ only by case or by Unicode's ways to write one letter (é as one code point
    or two) count as the same, for file systems that cannot tell them apart.

    Raises:
        InputError: when even the full paths differ only so, or a name can be none of a file.
    """
    stems = [folded(os.path.splitext(path)[0]) for path in paths]
    shared = {stem for stem, n in _counts(stems).items() if n > 1}
    names = {
        path: path if stem in shared else os.path.splitext(path)[0]
        for path, stem in zip(paths, stems, strict=True)
    }
    owner: dict[str, str] = {}
    for path, name in names.items():
        other = owner.setdefault(folded(name), path)
        if other != path:
            raise InputError(f"{other} and {path} would be written to one file; rename one")
    _check_paths([f"{name}.png" for name in names.values()])
    return names


def _check_paths(paths: Sequence[str]) -> None:
    """Raises InputError when outputs cannot all exist: one is another's folder, or no name."""
    folders: set[str] = set()
    for path in paths:
        folder = os.path.dirname(folded(path))
        while folder and folder not in folders:
            folders.add(folder)
            folder = os.path.dirname(folder)
    for path in paths:
        if folded(path) in folders:
            raise InputError(f"{path} would be written beside a folder of that name; rename one")
        # names of objects, which know fewer rules than those of files
        parts = path.split("/")
        if max(len(os.fsencode(part)) for part in parts) > _NAME_BYTES:
            raise InputError(f"the name {path} is over {_NAME_BYTES} bytes; shorten the input's")
        if "\0" in path or not {"", ".", ".."}.isdisjoint(parts):
            raise InputError(f"{path!r} cannot be the name of a file; rename the input's")


def folded(name: str) -> str:
    """The same for names that some file system cannot tell apart (Unicode's canonical caseless
    matching); ones that only look alike stay different."""
    return normalize("NFC", normalize("NFD", name).casefold())


def safe_stem(name: str) -> str:
    """A beginning of shards' names, made of the name of a folder."""
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)
    return safe.lstrip("._-")[:_STEM_LENGTH] or "images"


def _is_text(name: str) -> bool:
    """Whether a name is Unicode: not so when the file system holds other bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _counts(names: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return counts

"""Training data: examples of pictures with their masks or labels, from shards or image files."""

import dataclasses
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from models.loading import import_tensorflow
from transforms import storage
from transforms.decode import DecodePolicy, decode
from transforms.failures import Failure
from transforms.feature_names import FeatureNames
from transforms.inputs import Shard
from transforms.label_sources.layouts import folder_name
from transforms.masks import Ids, decode_mask
from transforms.records import Item, Record
from transforms.sources import Load, read_shard
from transforms.splits import is_validation
from transforms.streams import Ahead, ordered_map

tf = import_tensorflow()

Wanted = Literal["masks", "labels"]
Part = Literal["train", "validation"]
CACHE_BYTES = 4 << 30  # of examples that are kept in memory
_LARGEST_ID = 65535  # as of masks
_TEXT_FEATURE = "image/class/text"
_AHEAD_ITEMS = 32
_AHEAD_BYTES = 256 << 20


@dataclasses.dataclass(frozen=True)
class Example:
    """One example.

    Attributes:
        key: name of the record.
        pixels: uint8 [H, W, 3], RGB.
        mask: uint8 or uint16 [H, W], class ids; None when labels are wanted.
        label: class id; None when masks are wanted.
        text: name of the label's class, "" when the data does not say.
    """

    key: str
    pixels: npt.NDArray[np.uint8]
    mask: Ids | None = None
    label: int | None = None
    text: str = ""

    @property
    def nbytes(self) -> int:
        return self.pixels.nbytes + (0 if self.mask is None else self.mask.nbytes)

    def class_counts(self) -> npt.NDArray[np.int64]:
        """int64 [highest id + 1]: pixels of the mask by class id, or 1 at the label."""
        if self.mask is not None:
            return np.bincount(self.mask.ravel()).astype(np.int64)
        return np.bincount([self.label or 0]).astype(np.int64)


@dataclasses.dataclass(frozen=True)
class Reading:
    """How examples are read.

    Attributes:
        wanted: what must be there beside the pictures.
        names: features of the pictures and keys in tf.Examples.
        mask_feature, label_feature: of the others.
        folders: class names by label, for labels of image files: the folder that holds a file.
        policy: how pictures are decoded.
    """

    wanted: Wanted
    names: FeatureNames = FeatureNames()
    mask_feature: str = "image/segmentation/class/encoded"
    label_feature: str = "image/class/label"
    folders: tuple[str, ...] = ()
    policy: DecodePolicy = DecodePolicy()


@dataclasses.dataclass
class Survey:
    """What one look at all examples found; see TrainingSet.

    Attributes:
        keys: names by part.
        counts: int64 [C] by part: pixels of the masks, or pictures, by class id.
        images: int64 [C] by part: pictures that show a class.
        sizes_hw: how many pictures of a part have a size.
        texts: names of classes by label, where the data says them.
        grey: whether all pictures are grey.
        failed: (key, failure) of examples that cannot be used.
        first_with: name of the first example that has a class id.
    """

    keys: dict[Part, list[str]]
    counts: dict[Part, npt.NDArray[np.int64]]
    images: dict[Part, npt.NDArray[np.int64]]
    sizes_hw: dict[Part, dict[tuple[int, int], int]]
    texts: dict[int, str] = dataclasses.field(default_factory=dict)
    grey: bool = True
    failed: list[tuple[str, Failure]] = dataclasses.field(default_factory=list)
    first_with: dict[int, str] = dataclasses.field(default_factory=dict)


class Examples(Protocol):
    """What a training reads: a TrainingSet, or several as one."""

    @property
    def in_memory(self) -> bool: ...
    def examples(
        self,
        part: Part,
        order: np.random.Generator | None = None,
        times: Callable[[Example], int] = lambda example: 1,
    ) -> Iterator[Example]: ...


class TrainingSet:
    """All examples, split into two parts. They stay in memory if they fit, else are read again."""

    def __init__(
        self,
        shards: Sequence[Shard],
        reading: Reading,
        validation_fraction: float,
        split_by: re.Pattern[str] | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self._shards = shards
        self._reading = reading
        self._fraction = validation_fraction
        self._split_by = split_by
        self._cache_bytes = cache_bytes
        self._cache: dict[Part, list[Example]] | None = None
        self._keys: dict[Part, frozenset[str]] = {}

    @property
    def in_memory(self) -> bool:
        """Whether all examples are kept; known after `survey`."""
        return self._cache is not None

    def survey(self, say: Callable[[int], None] = lambda count: None) -> Survey:
        """Reads everything once.

        Args:
            say: is told the number of examples read so far.

        Raises:
            OSError: a shard cannot be read.
            UserError: a name does not fit `split_by`.
        """
        none = np.zeros(0, np.int64)
        found = Survey(
            keys={"train": [], "validation": []},
            counts={"train": none, "validation": none},
            images={"train": none, "validation": none},
            sizes_hw={"train": {}, "validation": {}},
        )
        cache: dict[Part, list[Example]] | None = {"train": [], "validation": []}
        cached_bytes = 0
        for number, (record, example) in enumerate(self._read(self._shards, lambda key: True)):
            say(number + 1)
            if isinstance(example, Failure):
                found.failed.append((record.key, example))
                continue
            part = self._part(example.key)
            _note(found, part, example)
            cached_bytes += example.nbytes
            if cached_bytes > self._cache_bytes:
                cache = None
            if cache is not None:
                cache[part].append(example)
        self._cache = cache
        self._keys = {part: frozenset(keys) for part, keys in found.keys.items()}
        return found

    def examples(
        self,
        part: Part,
        order: np.random.Generator | None = None,
        times: Callable[[Example], int] = lambda example: 1,
    ) -> Iterator[Example]:
        """The examples of one part; of those that cannot be used none.

        Args:
            order: shuffles them, or the shards when they are read again; None for their own order.
            times: how often an example comes.
        """
        if self._cache is not None:
            examples = self._cache[part]
            repeats = np.asarray([times(example) for example in examples], np.int64)
            numbers = np.repeat(np.arange(len(examples)), repeats)
            if order is not None:
                order.shuffle(numbers)
            yield from (examples[number] for number in numbers)
            return
        shards = list(self._shards)
        if order is not None:
            shards = [shards[number] for number in order.permutation(len(shards))]
        for _, example in self._read(shards, self._keys[part].__contains__):
            if not isinstance(example, Failure):
                yield from repeat(example, times(example))

    def _part(self, key: str) -> Part:
        return "validation" if is_validation(key, self._fraction, self._split_by) else "train"

    def _read(
        self, shards: Sequence[Shard], wanted: Callable[[str], bool]
    ) -> Iterator[Item[Example]]:
        with ThreadPoolExecutor(os.cpu_count() or 1, "decode") as pool:
            for shard in shards:
                yield from read_examples(shard, self._reading, pool, wanted)


def read_examples(
    shard: Shard, reading: Reading, pool: ThreadPoolExecutor, wanted: Callable[[str], bool]
) -> Iterator[Item[Example]]:
    """The examples of a shard in order, decoded in a pool; what is wrong is a Failure in its place.

    Args:
        wanted: whether the example of a name is decoded; others are passed over.

    Raises:
        OSError: a TFRecord file cannot be read.
    """
    ahead = Ahead(_AHEAD_ITEMS, _AHEAD_BYTES, os.cpu_count() or 1)

    def make(item: Item[Load]) -> Item[Example]:
        record, load = item
        try:
            if isinstance(load, Failure):
                raise load
            example = _example(shard, record, load(), reading)
            ahead.saw(example.nbytes)
            return record, example
        except Failure as failure:
            return record, failure

    items = (item for item in read_shard(shard, reading.names) if wanted(item[0].key))
    return ordered_map(pool, make, items, ahead)


def _example(shard: Shard, record: Record, data: bytes, reading: Reading) -> Example:
    pixels = decode(data, reading.policy).pixels
    if reading.wanted == "masks":
        encoded = mask_bytes(shard, record, reading.mask_feature)
        return Example(record.key, pixels, decode_mask(encoded, pixels.shape[:2], record.key))
    label, text = _label(shard, record, reading)
    return Example(record.key, pixels, label=label, text=text)


def mask_bytes(shard: Shard, record: Record, mask_feature: str) -> bytes:
    """The encoded mask of a record: a feature of its tf.Example, or the file beside the image.

    Raises:
        Failure: there is none.
    """
    if shard.is_examples:
        features = tf.train.Example.FromString(record.features).features.feature
        name = mask_feature
        values = features[name].bytes_list.value if name in features else []
        if len(values) == 1:
            return bytes(values[0])
        raise Failure(
            "read",
            "mask_missing",
            f"expected one bytes value in feature {name!r}, got {len(values)}; the example has "
            f"{', '.join(sorted(features))}; name the right one by --mask_feature",
        )
    path = shard.files[record.index].mask
    if not path:
        raise Failure(
            "read",
            "mask_missing",
            "there is no mask: it should be masks/... for images/..., or have _mask in its name",
        )
    try:
        return storage.read_bytes(os.path.join(shard.root, path))
    except OSError as error:
        raise Failure("read", "mask_missing", f"{path}: {error.strerror}") from error


def _label(shard: Shard, record: Record, reading: Reading) -> tuple[int, str]:
    if not shard.is_examples and reading.folders:
        folder = folder_name(shard.files[record.index].path)
        return reading.folders.index(folder), folder
    features = tf.train.Example.FromString(record.features).features.feature
    name = reading.label_feature
    values = features[name].int64_list.value if name in features else []
    if len(values) != 1:
        raise Failure(
            "read",
            "label_missing",
            f"expected one integer in feature {name!r}, got {len(values)}; the example has "
            f"{', '.join(sorted(features))}; name the right one by --label_feature",
        )
    label = int(values[0])
    if not 0 <= label <= _LARGEST_ID:
        raise Failure(
            "read",
            "label_range",
            f"feature {name!r} is {label}, expected a class id from 0 to {_LARGEST_ID}",
        )
    texts = features[_TEXT_FEATURE].bytes_list.value if _TEXT_FEATURE in features else []
    return label, texts[0].decode("utf-8", "replace") if len(texts) == 1 else ""


def _note(found: Survey, part: Part, example: Example) -> None:
    found.keys[part].append(example.key)
    counts = example.class_counts()
    found.counts[part] = add_counts([found.counts[part], counts])
    found.images[part] = add_counts([found.images[part], (counts > 0).astype(np.int64)])
    height, width = example.pixels.shape[:2]
    sizes = found.sizes_hw[part]
    sizes[height, width] = sizes.get((height, width), 0) + 1
    for class_id in np.flatnonzero(counts).tolist():
        found.first_with.setdefault(class_id, example.key)
    if example.text and example.label is not None:
        found.texts.setdefault(example.label, example.text)
    if found.grey:
        red, green, blue = (example.pixels[..., channel] for channel in range(3))
        found.grey = bool((red == green).all() and (green == blue).all())


def add_counts(arrays: Iterable[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    """int64 [longest]: the sum of arrays of any lengths, which begin at the same class."""
    given = list(arrays)
    total = np.zeros(max((len(a) for a in given), default=0), np.int64)
    for a in given:
        total[: len(a)] += a
    return total

"""Augmenting: the operator that makes new training examples of those in a shard, by a recipe.

A shard is read twice: first every picture is looked at, to know which can be used and how many
copies of each are needed; then the copies are made, in the order of the shard.
"""

import dataclasses
import itertools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from models.classifier import Bound
from models.devices import DeviceOptions, configure
from transforms import sums
from transforms.augmentation.accounts import shard_extras
from transforms.augmentation.apply import make_copy
from transforms.augmentation.balance import Copies, plan_copies
from transforms.augmentation.copies import encode_copy
from transforms.augmentation.draws import Draws
from transforms.augmentation.filters import LeftOut, Validation, ignored_share, poor
from transforms.augmentation.looking import (
    Looked,
    Pool,
    Reading,
    counts_of,
    has_mask,
    not_twice,
    read_scene,
)
from transforms.augmentation.making import Maker
from transforms.augmentation.provenance import Provenance, features_of
from transforms.augmentation.pseudo import Labeller, PseudoMask, PseudoMasks
from transforms.augmentation.recipe import Recipe
from transforms.augmentation.scene import Scene
from transforms.augmentation.steps import CopyPaste
from transforms.augmentation.translating import TRANSLATE, SceneTranslator
from transforms.clock import Clock
from transforms.decode import DecodePolicy
from transforms.failures import Failure
from transforms.feature_names import FeatureNames
from transforms.generate import GenerateOperator
from transforms.guard import Known, Marks
from transforms.inputs import Shard
from transforms.picture_work import Settings
from transforms.records import Item, Record, Result, WorkStream
from transforms.shard_work import Work
from transforms.sink import Sink
from transforms.sources import Load, read_shard
from transforms.streams import Ahead, ordered_map
from transforms.survive import TIMEOUT_S

COLUMNS = pa.schema(
    [
        pa.field("source_key", pa.string()),
        pa.field("copy", pa.int32()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("format", pa.string()),
        pa.field("image_bytes", pa.int64()),
        pa.field("brightness", pa.float64()),
        pa.field("label", pa.int32()),
        pa.field("classes", pa.list_(pa.int32())),
        pa.field("class_pixels", pa.list_(pa.int64())),
        pa.field("ignored", pa.float64()),
        pa.field("pseudo_confidence", pa.float64()),
        pa.field("item", pa.int64()),
        pa.field("attempt", pa.int32()),
        pa.field("predicted", pa.int32()),
        pa.field("confidence", pa.float64()),
        pa.field("operations", pa.string()),
        pa.field("partners", pa.list_(pa.string())),
    ]
)
_AHEAD_ITEMS = 64
_AHEAD_BYTES = 256 << 20

Outcome = Result | Failure | LeftOut


@dataclasses.dataclass(frozen=True)
class AugmentOperator:
    """Settings of an augmentation; all of it is pickled to the workers.

    Attributes:
        recipe: what to make.
        fingerprint: of the recipe.
        sink: of kind "images", with COLUMNS.
        have: what the whole source has of each class, if the recipe names it.
        segmenter: of pseudo_label, bound and probed.
        generator: of generate, with its checks.
        translator: of translate, bound and probed.
        policy: how pictures are decoded.
        threads: that decode, change and encode; 0 for one a core.
    """

    recipe: Recipe
    fingerprint: str
    sink: Sink
    have: dict[int, int] | None = None
    segmenter: Bound | None = None
    generator: GenerateOperator | None = None
    translator: Bound | None = None
    policy: DecodePolicy = DecodePolicy()
    threads: int = 0

    @property
    def reading(self) -> Reading:
        """How scenes are read."""
        return Reading(self.recipe.features, self.policy, self.recipe.ignore_id)

    @property
    def names(self) -> FeatureNames:
        """Features of picture and key."""
        return FeatureNames(self.recipe.features.image, self.recipe.features.key)

    def labeller(self) -> Labeller | None:
        """Loads the segmenter of pseudo_label, if there is one. Raises ModelError."""
        if self.segmenter is None or self.recipe.pseudo_label is None:
            return None
        settings = Settings(self.policy, self.names, self.threads, TIMEOUT_S)
        return Labeller(self.segmenter, self.recipe.pseudo_label, self.recipe.ignore_id, settings)

    def unlabelled(self, shard: Shard) -> frozenset[int]:
        """Which records of a shard have no mask. Raises OSError."""
        return frozenset(
            record.index
            for record, load in read_shard(shard, self.names)
            if not isinstance(load, Failure) and not has_mask(record, self.recipe.features)
        )

    def open(self) -> Work:
        """Loads the segmenter, and what is known of the validation shards. Raises ModelError."""
        configure(DeviceOptions())
        return _AugmentWork(self)


class _AugmentWork:
    """The work of one process."""

    def __init__(self, settings: AugmentOperator) -> None:
        self._settings = settings
        self._pool = ThreadPoolExecutor(settings.threads or os.cpu_count() or 1, "codec")
        filters = settings.recipe.filter
        self._validation = None
        if filters.validation:
            self._validation = Validation.load(settings.sink.root, filters.near_bits)
        self._labeller = settings.labeller()
        self._maker = None if settings.generator is None else Maker(settings.generator)
        bound = settings.translator
        self._translator = None if bound is None else SceneTranslator(bound)

    def __call__(self, shard: Shard, clock: Clock) -> WorkStream:
        masks: PseudoMasks = {}
        if self._labeller is not None:
            masks = self._labeller(shard, self._settings.unlabelled(shard), clock)
        work = _ShardWork(
            self._settings,
            self._pool,
            validation=self._validation,
            shard=shard,
            masks=masks,
            translator=self._translator,
        )
        return work.run(clock, self._maker)


class _ShardWork:
    """The work on one shard: looking, planning, making."""

    def __init__(
        self,
        settings: AugmentOperator,
        pool: ThreadPoolExecutor,
        *,
        validation: Validation | None,
        shard: Shard,
        masks: PseudoMasks,
        translator: SceneTranslator | None,
    ) -> None:
        self._settings = settings
        self._recipe = settings.recipe
        self._pool = pool
        self._at_least = settings.threads or os.cpu_count() or 1
        self._validation = validation
        self._shard = shard
        self._masks = masks
        self._translator = translator
        pasted = [s.classes for s in self._recipe.steps if isinstance(s, CopyPaste)]
        self._partners = Pool(self._read, [(), *pasted] if self._recipe.needs_partners else [])

    def run(self, clock: Clock, maker: Maker | None) -> WorkStream:
        """Copies, failures, and at the end what the shard has besides."""
        looked = list(self._look(clock))
        self._partners.close()
        usable = [each for each in looked if each.problem is None]
        planned = plan_copies(
            [each.counts for each in usable],
            self._recipe.per_image,
            self._recipe.balance,
            self._settings.have,
            Draws(self._recipe.seed, self._shard.name, "balance"),
        )
        copies = {e.record.index: int(n) for e, n in zip(usable, planned.of, strict=True)}
        left = [(each.record.key, each.record.index, each.problem) for each in looked]
        number, generated = 0, sums.Sums()
        made = self._make(clock, looked, copies)
        if maker is not None:
            made = itertools.chain(made, self._generate(clock, maker, planned))
        for record, outcome in made:
            if isinstance(outcome, LeftOut):
                left.append((record.key, record.index, outcome))
                continue
            if isinstance(outcome, Result) and "generated" in outcome.sums:
                generated = sums.add(generated, outcome.sums["labels"])
            yield dataclasses.replace(record, index=number), outcome
            number += 1
        yield shard_extras(self._shard.name, looked, planned.short(generated), left)

    def _read(self, record: Record, image: bytes) -> Scene:
        return read_scene(record, image, self._settings.reading, self._pseudo_mask(record))

    def _pseudo_mask(self, record: Record) -> PseudoMask | None:
        found = self._masks.get(record.index)
        return found if isinstance(found, PseudoMask) else None

    def _records(self, clock: Clock) -> Iterator[Item[Load]]:
        return clock.iterate("read", read_shard(self._shard, self._settings.names))

    def _look(self, clock: Clock) -> Iterator[Looked]:
        """What is known of each record, in their order; those that can be used go to the pool."""
        ahead = Ahead(_AHEAD_ITEMS, _AHEAD_BYTES, self._at_least)
        filters = self._recipe.filter
        seen = Known(filters.near_bits)

        def look(item: Item[Load]) -> Looked:
            record, load = item
            try:
                image = _image_of(load, clock)
                if isinstance(found := self._masks.get(record.index), Failure | LeftOut):
                    return Looked(record, problem=found)
                with clock("decode"):
                    scene = self._read(record, image)
                ahead.saw(2 * scene.nbytes)
                with clock("check"):
                    marks = Marks.of(scene.pixels)
                    problem = poor(scene.pixels, filters) or self._leak(scene, marks)
                counts = counts_of(scene, self._recipe.ignore_id)
            except Failure as failure:
                return Looked(record, problem=failure)
            return Looked(record, image, counts, marks, problem)

        for each in ordered_map(self._pool, look, self._records(clock), ahead):
            found = each
            if each.problem is None and filters.duplicates != "keep":
                found = not_twice(each, seen, filters.duplicates)
            if found.problem is None:
                self._partners.offer(found)
                seen.add(found.record.key, found.marks)
            stripped = dataclasses.replace(found.record, features=b"")  # masks stay with the pool
            yield dataclasses.replace(found, record=stripped, image=b"")

    def _leak(self, scene: Scene, marks: Marks) -> LeftOut | None:
        if self._validation is None:
            return None
        names = {scene.key, *scene.ancestors}
        return self._validation.leak(names, marks, self._recipe.filter.leakage)

    def _make(
        self, clock: Clock, looked: Sequence[Looked], copies: dict[int, int]
    ) -> Iterator[tuple[Record, Outcome]]:
        """Copies in the order of the shard; a picture that cannot be used is a failure in it."""
        ahead = Ahead(_AHEAD_ITEMS, _AHEAD_BYTES, self._at_least)

        def make(item: Item[Load]) -> list[tuple[Record, Outcome]]:
            record, load = item
            problem = looked[record.index].problem
            if isinstance(problem, Failure):
                return [(dataclasses.replace(record, features=b""), problem)]
            if problem is not None or not copies[record.index]:
                return []
            image = _image_of(load, clock)
            with clock("decode"):
                scene = self._read(record, image)
            ahead.saw(2 * copies[record.index] * scene.nbytes)
            numbers = range(copies[record.index])
            of_model = [self._is_translated(record, copy) for copy in numbers]
            other = self._translated(clock, scene) if any(of_model) else scene
            if isinstance(other, Scene):  # it may be larger
                ahead.saw(2 * copies[record.index] * other.nbytes)
            return [
                self._copy(clock, record, other if of_model[copy] else scene, copy)
                for copy in numbers
            ]

        for made in ordered_map(self._pool, make, self._records(clock), ahead):
            yield from made

    def _generate(
        self, clock: Clock, maker: Maker, planned: Copies
    ) -> Iterator[tuple[Record, Outcome]]:
        """Pictures by the generator of what lacks; none that looks like a validation picture."""
        balance = self._recipe.balance
        assert balance is not None, "the recipe refuses generate without balance"
        wanted = planned.to_generate(balance.max_synthetic_share)
        name = self._shard.name
        items = maker.items(name, wanted)
        for record, result, marks in maker(name, items, self._settings.fingerprint, clock):
            leak = None
            if self._validation is not None and marks is not None:
                leak = self._validation.leak((), marks, self._recipe.filter.leakage)
            yield record, leak or result

    def _is_translated(self, record: Record, copy: int) -> bool:
        """Whether a copy is made of the picture by translate's model."""
        wanted = self._recipe.translate
        draws = Draws(self._recipe.seed, record.key, copy, TRANSLATE)
        return wanted is not None and draws.chance(wanted.p)

    def _translated(self, clock: Clock, scene: Scene) -> Scene | Failure | LeftOut:
        """What copies are made of in a scene's place, or why none can be."""
        assert self._translator is not None, "asked for only where the recipe has translate"
        try:
            with clock.model(1):
                made = self._translator(scene)
        except Failure as failure:
            return failure
        if self._validation is None:
            return made
        leakage = self._recipe.filter.leakage
        return self._validation.leak((), Marks.of(made.pixels), leakage) or made

    def _copy(
        self, clock: Clock, record: Record, scene: Scene | Failure | LeftOut, copy: int
    ) -> tuple[Record, Outcome]:
        recipe = self._recipe
        of_model = self._is_translated(record, copy)
        found = self._provenance(record, copy, of_model)
        named = dataclasses.replace(record, key=found.key, features=b"", twice=False)
        if not isinstance(scene, Scene):
            return named, scene
        try:
            with clock("change"):
                made, operations = make_copy(
                    scene,
                    recipe.steps,
                    seed=recipe.seed,
                    copy=copy,
                    ignore_id=recipe.ignore_id,
                    partners=self._partners,
                )
        except Failure as failure:
            return named, failure
        if made.mask is not None:
            share = ignored_share(made.mask, recipe.ignore_id)
            if share > recipe.filter.max_ignored:
                return named, LeftOut("mostly_ignored", f"{share:.1%} of the mask")
        if of_model and self._translator is not None:
            operations = [self._translator.operation, *operations]
        found = dataclasses.replace(found, operations=operations)
        with clock("encode"):
            result = encode_copy(made, found, recipe)
        return dataclasses.replace(named, features=features_of(found, made)), result

    def _provenance(self, record: Record, copy: int, of_model: bool) -> Provenance:
        pseudo, segmenter = self._pseudo_mask(record), self._settings.segmenter
        models = {"pseudo_label": segmenter.fingerprint} if pseudo and segmenter else {}
        if of_model and (translator := self._settings.translator) is not None:
            models[TRANSLATE] = translator.fingerprint
        return Provenance(
            source=record.key,
            shard=self._shard.name,
            index=record.index,
            copy=copy,
            seed=self._recipe.seed,
            recipe=self._settings.fingerprint,
            operations=(),
            models=models,
            pseudo_confidence=None if pseudo is None else pseudo.confidence,
        )


def _image_of(load: Load | Failure, clock: Clock) -> bytes:
    if isinstance(load, Failure):
        raise load
    with clock("read"):
        return load()

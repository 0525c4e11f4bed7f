"""What is left out, by what is known of a picture."""

import numpy as np
from PIL import Image, ImageFilter

from transforms.augmentation.draws import Draws
from transforms.augmentation.filters import Validation, ignored_share, poor, sharpness
from transforms.augmentation.looking import Looked, Pool
from transforms.augmentation.recipe import Filter
from transforms.augmentation.scene import Scene
from transforms.guard import Known, Marks
from transforms.records import Record


def picture(seed):
    return np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def test_blurred_pictures_are_less_sharp():
    image = Image.fromarray(picture(1))
    found = [sharpness(np.asarray(image.filter(ImageFilter.GaussianBlur(r)))) for r in (0, 1, 2, 4)]
    assert found == sorted(found, reverse=True) and found[0] > 10 * found[1]
    assert sharpness(np.full((9, 9, 3), 77, np.uint8)) == 0


def test_usual_pictures_pass_and_poor_ones_are_named():
    assert poor(picture(1), Filter()) is None
    assert poor(picture(1), Filter(min_side_px=41)).reason == "too_small"
    assert poor(picture(1), Filter(min_side_px=40)) is None
    assert poor(picture(1), Filter(brightness=(0, 100))).reason == "brightness"
    assert ignored_share(np.array([[1, 255], [255, 255]], np.uint8), 255) == 0.75


def test_leaks_count_by_what_the_recipe_says():
    known = Known(3)
    known.add("v", Marks.of(picture(1)))
    validation = Validation(frozenset({"a"}), known)
    same, other = Marks.of(picture(1)), Marks.of(picture(2))
    every = ("key", "exact", "near")
    assert validation.leak({"a"}, other, every).reason == "leak_key"
    assert validation.leak({"b"}, same, every).reason == "leak_exact"
    assert validation.leak({"b"}, other, every) is None
    assert validation.leak({"a"}, same, ()) is None
    near = Marks(other.digest, same.phash ^ 0b101)
    assert (
        validation.leak((), near, every).message
        == "v of the validation shards, 2 of 64 bits differ"
    )
    assert validation.leak((), near, ("key", "exact")) is None
    assert validation.leak((), same, ("near",)).reason == "leak_exact"


def pool_of(count, wanted, order=1):
    def read(record, image):
        return Scene(picture(record.index), key=record.key, index=record.index)

    pool = Pool(read, wanted)
    for index in range(count)[::order]:
        counts = {index % 50: 9}
        pool.offer(Looked(Record(index, f"{index}.png", ""), b"", counts))
    pool.close()
    return pool


def test_partners_are_others_that_show_what_is_wanted_whatever_the_order():
    wanted = [(), (3, 7), (99,)]
    one, other = pool_of(500, wanted), pool_of(500, wanted, -1)
    seen = set()
    for copy in range(300):
        found = [pool.choose(Draws(1, copy), 3, (3, 7)) for pool in (one, other)]
        assert found[0].key == found[1].key
        assert found[0].index % 50 in (3, 7) and found[0].index != 3
        seen.add(one.choose(Draws(2, copy), 3).index)
    assert 50 < len(seen) <= 64  # of 64 that are kept
    assert one.choose(Draws(1), 3, (99,)) is None
    assert pool_of(1, [()]).choose(Draws(1), 0) is None

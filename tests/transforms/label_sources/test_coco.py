"""COCO's annotations become masks: pycocotools agrees, the file is streamed, errors have names."""

import json
import tracemalloc

import numpy as np
import pytest
from pycocotools.coco import COCO

from transforms.failures import Failure
from transforms.inputs import cut_images
from transforms.label_sources.coco import (
    Annotated,
    coco_mask,
    index_path,
    read_index,
    read_summary,
    stage,
)
from transforms.listing import InputError

SIZE_HW = (30, 40)


def annotations(count=6, seed=0, size_hw=SIZE_HW):
    """Polygons of one or two parts, and crowds in RLE of both kinds."""
    draw = np.random.default_rng(seed)
    height, width = size_hw
    images = [
        {"id": 100 + n, "file_name": f"{n}.jpg", "height": height, "width": width}
        for n in range(count)
    ]
    objects = []
    for image in images:
        for n in range(4):
            center = draw.uniform(0, 1, 2) * (width, height)
            parts = [
                (center + draw.uniform(-12, 12, (6, 2))).round(2).ravel().tolist()
                for _ in range(1 + n % 2)
            ]
            objects.append({"segmentation": parts, "iscrowd": 0})
        counts = np.diff(np.concatenate([[0], np.sort(draw.integers(0, 1200, 20)), [1200]]))
        objects.append({"segmentation": {"size": [height, width], "counts": counts.tolist()}})
        objects[-1]["iscrowd"] = 1
        for found in objects[-5:]:
            found |= {"image_id": image["id"]}
    for n, found in enumerate(objects):
        found |= {"id": n + 1, "category_id": 1 + 37 * (n % 3)}
    categories = [{"id": 1 + 37 * n, "name": f"c{n}"} for n in range(3)]
    return {"images": images, "annotations": objects, "categories": categories}


def written(tmp_path, fields):
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(fields))
    return str(path)


def shards_of(paths, per_shard=4):
    return tuple(cut_images("/data", [(path, 1) for path in paths], per_shard))


def test_masks_are_what_pycocotools_paints(tmp_path):
    """Every pixel has the category of the smallest object over it; crowds lie under all."""
    path = written(tmp_path, annotations())
    files = [f"val/{n}.jpg" for n in range(6)]
    summary = read_summary(path, files)
    assert summary.paths == set(files) and summary.missing == 0
    assert summary.categories == {1: "c0", 38: "c1", 75: "c2"}
    shards = shards_of(files)
    stage(path, str(tmp_path), shards, summary.categories)
    reference = COCO(path)
    for shard in shards:
        for picture, annotated in read_index(str(tmp_path), shard).items():
            (number,) = (n for n in range(6) if picture == f"val/{n}.jpg")
            expected = np.zeros(SIZE_HW, np.uint8)
            found = reference.loadAnns(reference.getAnnIds(imgIds=100 + number))
            masks = [(reference.annToMask(one), one) for one in found]
            for mask, one in sorted(
                masks, key=lambda m: (not m[1]["iscrowd"], -int(m[0].sum()), m[1]["id"])
            ):
                expected[mask == 1] = one["category_id"]
            np.testing.assert_array_equal(coco_mask(annotated, SIZE_HW, picture), expected)
            assert len(np.unique(expected)) > 2


def test_a_picture_without_objects_is_background_and_large_ids_need_sixteen_bits():
    empty = coco_mask(Annotated((3, 4), []), (3, 4), "a")
    assert empty.dtype == np.uint8 and not empty.any() and empty.shape == (3, 4)
    square = [[0, 0, 2, 0, 2, 2, 0, 2]]
    large = coco_mask(Annotated((3, 4), [(300, False, 1, square)]), (3, 4), "a")
    assert large.dtype == np.uint16 and large[0, 0] == 300 and large[2, 3] == 0


def test_the_small_lies_on_the_large_whatever_the_order():
    large, small = [[0, 0, 9, 0, 9, 9, 0, 9]], [[2, 2, 5, 2, 5, 5, 2, 5]]
    for objects in (
        [(1, False, 1, large), (2, False, 2, small)],
        [(2, False, 1, small), (1, False, 2, large)],
    ):
        assert coco_mask(Annotated((9, 9), objects), (9, 9), "a")[3, 3] == 2
    crowd = [(1, False, 1, large), (2, True, 2, small)]
    assert (coco_mask(Annotated((9, 9), crowd), (9, 9), "a") == 1).all()
    same = [(1, False, 1, large), (2, False, 2, large)]
    assert (coco_mask(Annotated((9, 9), same), (9, 9), "a") == 2).all()


def test_instances_have_numbers_by_category():
    left, right = [[0, 0, 3, 0, 3, 9, 0, 9]], [[5, 0, 9, 0, 9, 9, 5, 9]]
    everything = [[0, 0, 9, 0, 9, 9, 0, 9]]
    objects = [(3, False, 9, right), (3, False, 4, left), (7, True, 1, everything)]
    mask = coco_mask(Annotated((9, 9), objects), (9, 9), "a", instances=True)
    assert mask.dtype == np.uint16
    assert mask[0, [0, 4, 8]].tolist() == [3 * 256 + 1, 7 * 256, 3 * 256 + 2]
    many = [(3, False, n, left) for n in range(256)]
    with pytest.raises(Failure, match="256 objects of category 3"):
        coco_mask(Annotated((9, 9), many), (9, 9), "a", instances=True)


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        (None, "mask_format"),
        ("x", "mask_format"),
        ([[1, 2]], "mask_format"),
        ({"size": [9, 9], "counts": [5]}, "mask_format"),
        ({"size": [9999999, 9999999], "counts": [5]}, "mask_size"),
        ({"counts": [81]}, "mask_size"),
    ],
)
def test_a_damaged_segmentation_costs_its_picture(segmentation, reason):
    with pytest.raises(Failure, match="annotation 7 of a") as caught:
        coco_mask(Annotated((9, 9), [(1, False, 7, segmentation)]), (9, 9), "a")
    assert caught.value.reason == reason


def test_another_size_is_refused():
    with pytest.raises(Failure, match="4x3, the picture is 3x4"):
        coco_mask(Annotated((3, 4), []), (4, 3), "a")


def test_names_that_fit_two_pictures_or_none(tmp_path):
    fields = annotations(2)
    path = written(tmp_path, fields)
    with pytest.raises(InputError, match=r"x/0\.jpg or y/0\.jpg"):
        read_summary(path, ["x/0.jpg", "y/0.jpg"])
    with pytest.raises(InputError, match="none of the file names"):
        read_summary(path, ["x/9.jpg", "x/10.jpg"])
    assert read_summary(path, ["x/0.jpg", "x/10.jpg"]).missing == 1
    assert read_summary(path, ["x/0.jpg"]).paths == {"x/0.jpg"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": [7]}, "expected objects"),
        ({"images": [{"id": 1, "file_name": None}]}, "file_name None"),
        ({"categories": [{"id": "x"}]}, "'id' is 'x'"),
        ({"categories": [{"id": 70000}]}, "category id 70000"),
        ({"annotations": [{"id": 1, "image_id": 100, "category_id": 5}]}, "category 5"),
        ({"annotations": [{"id": 1, "image_id": True}]}, "'image_id' is True"),
        ({"annotations": [{"id": 1, "image_id": 100, "category_id": 1.5}]}, "'category_id' is 1.5"),
    ],
)
def test_damaged_files_are_told(tmp_path, change, message):
    path = written(tmp_path, annotations(2) | change)
    with pytest.raises(InputError, match=message):
        shards = shards_of(["0.jpg", "1.jpg"])
        stage(path, str(tmp_path), shards, read_summary(path, ["0.jpg", "1.jpg"]).categories)


@pytest.mark.parametrize("text", ["", "{", '{"images": [{]}', '{"images": [{"id": 1,', "\xff"])
def test_what_is_no_json_is_told(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text, "latin-1")
    with pytest.raises(InputError):
        read_summary(str(path), ["0.jpg"])


def test_a_segmentation_of_many_folds_costs_its_picture(tmp_path):
    fields = annotations(1)
    text = json.dumps(fields).replace('"segmentation": [[', f'"segmentation": [{"[" * 5000}', 1)
    text = text.replace("]]", "]" * 5001, 1)
    path = tmp_path / "x.json"
    path.write_text(text)
    shards = shards_of(["0.jpg"])
    stage(str(path), str(tmp_path), shards, [1, 38, 75])
    with pytest.raises(Failure):
        coco_mask(read_index(str(tmp_path), shards[0])["0.jpg"], SIZE_HW, "0.jpg")


def test_the_file_is_never_in_memory(tmp_path, monkeypatch):
    """100 pictures: their polygons as lists in Python would take 13 MB."""
    monkeypatch.setattr("transforms.label_sources.coco._SPILL_BYTES", 1 << 17)
    polygon = [[n % 600 + 0.25 for n in range(4000)]]
    path = tmp_path / "large.json"
    size = {"height": 600, "width": 600}
    with open(path, "w") as file:
        images = [{"id": n, "file_name": f"{n}.jpg"} | size for n in range(100)]
        file.write('{"images": ' + json.dumps(images) + ', "annotations": [')
        one = json.dumps({"iscrowd": 0, "segmentation": polygon, "category_id": 1})
        for n in range(100):
            file.write("," * (n > 0) + f'{{"id": {n}, "image_id": {n}, {one[1:]}')
        file.write('], "categories": [{"id": 1, "name": "a"}]}')
    files = [f"{n}.jpg" for n in range(100)]
    shards = shards_of(files, 20)
    tracemalloc.start()
    stage(str(path), str(tmp_path), shards, read_summary(str(path), files).categories)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 << 20 < path.stat().st_size
    assert sum(len(read_index(str(tmp_path), shard)) for shard in shards) == 100
    assert index_path(shards[0].name) == f"labels/{shards[0].name}.jsonl"

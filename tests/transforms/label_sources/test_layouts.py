"""Which mask or label belongs to which picture, by the names of VOC, Cityscapes and others."""

import pytest

from transforms.label_sources.layouts import (
    class_folders,
    folder_name,
    pair_cityscapes,
    pair_voc,
    voc_base,
)
from transforms.listing import InputError


def files(*paths):
    return [(path, 10) for path in sorted(paths)]


VOC = files(
    *(f"VOC2012/JPEGImages/{n}.jpg" for n in range(4)),
    *(
        f"VOC2012/{kind}/{n}.png"
        for kind in ("SegmentationClass", "SegmentationObject")
        for n in (0, 2)
    ),
    "VOC2007/JPEGImages/0.jpg",
    "VOC2007/SegmentationClass/0.png",
)


def test_voc_takes_pictures_that_have_a_mask():
    found = pair_voc(VOC)
    assert found.masks == {
        "VOC2007/JPEGImages/0.jpg": "VOC2007/SegmentationClass/0.png",
        "VOC2012/JPEGImages/0.jpg": "VOC2012/SegmentationClass/0.png",
        "VOC2012/JPEGImages/2.jpg": "VOC2012/SegmentationClass/2.png",
    }
    assert [path for path, _ in found.images] == sorted(found.masks)
    assert found.left_out == ("VOC2012/JPEGImages/1.jpg", "VOC2012/JPEGImages/3.jpg")


def test_voc_sets_of_images():
    found = pair_voc(VOC, {"VOC2012/": ["2"]})
    assert list(found.masks) == ["VOC2012/JPEGImages/2.jpg"] and len(found.left_out) == 4
    with pytest.raises(InputError, match=r"no VOC2012/SegmentationClass/1\.png"):
        pair_voc(VOC, {"VOC2012/": ["1"]})
    with pytest.raises(InputError, match=r"2 names .* VOC2012/JPEGImages/8\.jpg"):
        pair_voc(VOC, {"VOC2012/": ["8", "9", "0"]})


def test_where_voc_begins():
    assert voc_base("JPEGImages/a.jpg") == ""
    assert voc_base("x/VOC2012/JPEGImages/a.jpg") == "x/VOC2012/"
    assert voc_base("x/JPEGImagesOld/a.jpg") is None
    assert pair_voc(files("JPEGImages/a.jpg", "SegmentationClass/a.png")).masks


CITY = files(
    *(f"leftImg8bit/{part}/aachen/a_{n}_leftImg8bit.png" for part, n in (("train", 1), ("val", 2))),
    "leftImg8bit/val/aachen/a_3_leftImg8bit.png",
    *(
        f"gtFine/{part}/aachen/a_{n}_gtFine_{kind}.png"
        for part, n in (("train", 1), ("val", 2))
        for kind in ("color", "instanceIds", "labelIds", "labelTrainIds")
    ),
)


@pytest.mark.parametrize("ids", ["labelIds", "labelTrainIds"])
def test_cityscapes_pairs(ids):
    found = pair_cityscapes(CITY, ids)
    assert found.masks == {
        "leftImg8bit/train/aachen/a_1_leftImg8bit.png": f"gtFine/train/aachen/a_1_gtFine_{ids}.png",
        "leftImg8bit/val/aachen/a_2_leftImg8bit.png": f"gtFine/val/aachen/a_2_gtFine_{ids}.png",
    }
    assert found.left_out == ("leftImg8bit/val/aachen/a_3_leftImg8bit.png",)


@pytest.mark.parametrize("pair", [pair_voc, pair_cityscapes])
def test_other_folders_are_refused(pair):
    with pytest.raises(InputError, match="name the folder above it"):
        pair(files("images/a.jpg", "masks/a.png"))


def test_folders_of_classes():
    paths = ["train/dog/1.jpg", "train/cat/2.jpg", "train/dog/3.jpg"]
    assert class_folders(paths, "/x") == ("cat", "dog")
    assert class_folders(paths, "/x", ("dog", "bird", "cat")) == ("dog", "bird", "cat")
    with pytest.raises(InputError, match="'cat' is none of --classes dog"):
        class_folders(paths, "/x", ("dog",))
    with pytest.raises(InputError, match=r"a\.jpg lies in no folder of /x"):
        class_folders([*paths, "a.jpg"], "/x")
    assert folder_name("a/b/c.jpg") == "b"

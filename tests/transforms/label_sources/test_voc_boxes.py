"""Boxes of VOC's XML become TF Object Detection's features; damaged XML costs its picture."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.failures import Failure
from transforms.label_sources.voc_boxes import VOC_CLASSES, annotation_path, read_boxes

XML = """<annotation><folder>VOC2012</folder><filename>a.jpg</filename>
<size><width>500</width><height>250</height><depth>3</depth></size><segmented>0</segmented>
<object><name>dog</name><pose>Left</pose><truncated>1</truncated><difficult>0</difficult>
<bndbox><xmin>50</xmin><ymin>25</ymin><xmax>500</xmax><ymax>250</ymax></bndbox>
<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox>
</part></object>
<object><name>person</name><bndbox><xmin>1.5</xmin><ymin>0</ymin><xmax>10</xmax><ymax>5</ymax>
</bndbox><difficult>1</difficult></object></annotation>"""
SIZE_HW = (250, 500)


def boxes(xml, classes=VOC_CLASSES):
    return read_boxes(xml.encode(), SIZE_HW, classes, "a.xml")


def test_features_are_those_of_tf_object_detection():
    assert boxes(XML) == {
        "image/object/bbox/xmin": [0.1, 0.003],
        "image/object/bbox/ymin": [0.1, 0.0],
        "image/object/bbox/xmax": [1.0, 0.02],
        "image/object/bbox/ymax": [1.0, 0.02],
        "image/object/class/text": [b"dog", b"person"],
        "image/object/class/label": [12, 15],
        "image/object/view": [b"Left", b""],
        "image/object/difficult": [0, 1],
        "image/object/truncated": [1, 0],
    }
    assert boxes(XML, ("person", "dog"))["image/object/class/label"] == [2, 1]
    nothing = boxes("<annotation></annotation>")
    assert not any(nothing.values()) and len(nothing) == 9


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<name>dog", "<name>dragon", "class 'dragon', which is none of aeroplane"),
        ("<width>500", "<width>400", "is of 400x250, its image is 500x250"),
        ("<xmax>500", "<xmax>501", "not within 500x250"),
        ("<xmin>50<", "<xmin>nan<", "xmin is 'nan'"),
        ("<ymin>25<", "<ymin>x<", "ymin is 'x'"),
        ("<xmin>1.5</xmin>", "", "xmin is None"),
        ("</annotation>", "", "no XML"),
        ("<annotation>", '<!DOCTYPE a [<!ENTITY x "y">]><annotation>', "entities"),
    ],
)
def test_damaged_annotations(old, new, message):
    with pytest.raises(Failure, match=message) as caught:
        boxes(XML.replace(old, new, 1))
    assert caught.value.reason == "annotation"


@given(st.binary(max_size=60), st.integers(0, len(XML)))
def test_hostile_bytes_are_failures_or_boxes(rest, at):
    for data in (rest, XML[:at].encode() + rest + XML[at:].encode()):
        try:
            found = read_boxes(data, SIZE_HW, VOC_CLASSES, "a.xml")
        except Failure:
            continue
        assert len({len(values) for values in found.values()}) == 1


def test_where_annotations_are():
    assert annotation_path("x/VOC2012/JPEGImages/2007_1.v.jpg") == (
        "x/VOC2012/Annotations/2007_1.v.xml"
    )
    with pytest.raises(Failure, match="not below JPEGImages"):
        annotation_path("images/a.jpg")

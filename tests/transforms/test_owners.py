"""Which shard a file belongs to, by its name."""

import pytest

from transforms.inputs import ImageFile, Items, Shard
from transforms.owners import Owners

SHARDS = [
    Shard("part/train-00000", "/in/train-00000.tfrecord", 1),
    Shard("photos-0", "/in", 1, (ImageFile("a/b.png", "a/b", 1), ImageFile("c.d.jpg", "c.d", 1))),
    Shard("images-0", "", 0, items=Items(0, ((0, 10),))),
    Shard("images-1", "", 0, items=Items(10, ((0, 10),))),
]


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        ("masks/part/train-00000.tfrecord", "part/train-00000"),
        ("metrics/part/train-00000.json", "part/train-00000"),
        ("records/photos-0.parquet", "photos-0"),
        ("masks/a/b.png", "photos-0"),
        ("masks/a/b.tif", "photos-0"),
        ("images/c.d.jpeg", "photos-0"),
        ("masks/part/train-00000.tar.gz", "part/train-00000"),
        ("masks/part/train-00000/000000-a_mask.png", "part/train-00000"),
        ("masks/part/train-00000/metadata.jsonl", "part/train-00000"),
        ("masks/part/train-00001/metadata.jsonl", None),
        ("images/ant/00000009.png", "images-0"),
        ("images/00000010.png", "images-1"),
        ("images/00000020.png", None),
        ("masks/a/x.png", None),
        ("masks/a/b.txt", None),
        ("notes.txt", None),
    ],
)
def test_owner(path: str, owner: str | None) -> None:
    assert Owners(SHARDS).of(path) == owner

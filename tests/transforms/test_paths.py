"""Paths as text: one form for each place."""

import os

import pytest

from models.errors import UserError
from transforms import paths


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("gs://bucket", "gs://bucket"),
        ("gs://bucket/a/", "gs://bucket/a"),
        ("GS://Bucket/a b", "gs://Bucket/a b"),
        ("s3://x/y?z", "s3://x/y?z"),
        ("file:///a/../b", "/b"),
        ("/a//b/", "/a/b"),
        ("a", os.path.join(os.getcwd(), "a")),
        ("a:b", os.path.join(os.getcwd(), "a:b")),
    ],
)
def test_one_form(path: str, expected: str) -> None:
    assert paths.absolute(path) == expected


@pytest.mark.parametrize("path", ["gs://", "gs:///a", "gs://b//a", "gs://b/../c", "gs://b/./c"])
def test_what_is_no_path_of_an_object(path: str) -> None:
    with pytest.raises(UserError, match="expected gs://BUCKET/NAME"):
        paths.absolute(path)


def test_parents_end_at_the_bucket() -> None:
    assert paths.parent("gs://b/a/c") == "gs://b/a"
    assert paths.parent("gs://b/a") == paths.parent("gs://b") == "gs://b"
    assert paths.parent("/a/b") == "/a" and paths.parent("/") == "/"


def test_common_folders() -> None:
    assert paths.common_folder(["/a/b/c", "/a/b/d"]) == "/a/b"
    assert paths.common_folder(["gs://b/a/c", "gs://b/a/cd"]) == "gs://b/a"
    assert paths.common_folder(["gs://b/a"]) == "gs://b/a"
    for others in (["gs://b/a", "gs://c/a"], ["gs://b/a", "s3://b/a"], ["/a", "gs://b/a"]):
        with pytest.raises(UserError, match="no folder in common"):
            paths.common_folder(others)


def test_relative() -> None:
    assert paths.relative("gs://b/a/c", "gs://b") == "a/c"
    assert paths.relative("/a/b/c", "/a") == "b/c"

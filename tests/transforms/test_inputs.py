"""From a pattern to a plan: what is found, what is refused and why, and how it is cut."""

import os

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from models.errors import UserError
from transforms import storage
from transforms.inputs import (
    ImageFile,
    InputError,
    Listing,
    Plan,
    Shard,
    cut,
    cut_images,
    list_input,
    output_names,
    pair_masks,
    plan_input,
)

# What a path may hold, the bytes that are no UTF-8 included (as Python keeps them).
NAMES = st.text(
    st.one_of(
        st.characters(blacklist_categories=("Cs",), blacklist_characters="/\0"),
        st.sampled_from('\n\r\x1c\x85\u2028\udcff"\\'),
    ),
    min_size=1,
    max_size=12,
)
SIZES = st.integers(0, 1 << 40)
IMAGES = st.builds(ImageFile, NAMES, NAMES, SIZES, st.one_of(st.just(""), NAMES))


def make(folder, *names, data=b"123"):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def paths(plan):
    return [file.path for shard in plan.shards for file in shard.files]


def shard_names(plan):
    return [shard.name for shard in plan.shards]


# ---- finding


def test_a_folder_of_images(tmp_path):
    photos = tmp_path / "my photos!"
    make(photos, "b.jpg", "a.PNG", "deep/er/c.webp")
    plan = plan_input(str(photos))
    assert plan.kind == "images"
    assert paths(plan) == ["a.PNG", "b.jpg", "deep/er/c.webp"]
    assert shard_names(plan) == ["my_photos_-00000-of-00001"]
    assert plan.shards[0].root == str(photos)
    assert [f.output_name for f in plan.shards[0].files] == ["a", "b", "deep/er/c"]
    assert plan.size_bytes == plan.shards[0].size_bytes == 9


def test_a_folder_of_tfrecord_files(tmp_path):
    make(tmp_path, "train-00001-of-00002.tfrecord", "train.tfrecord-00000-of-00002", "x/all.tfr.gz")
    plan = plan_input(str(tmp_path))
    assert plan.kind == "tfrecord"
    assert shard_names(plan) == ["train-00001-of-00002", "train-00000-of-00002", "x/all"]
    assert all(os.path.isfile(shard.root) and shard.is_examples for shard in plan.shards)


def test_other_files_of_a_folder_are_ignored_and_told(tmp_path):
    make(tmp_path, "a.jpg", "notes.txt", "labels/a.xml", ".hidden.jpg", ".git/a.jpg")
    plan = plan_input(str(tmp_path))
    assert paths(plan) == ["a.jpg"]
    assert sorted(plan.ignored) == ["labels/a.xml", "notes.txt"]


def test_links_to_folders_are_not_followed(tmp_path):
    make(tmp_path, "in/a.jpg", "outside/secret.jpg")
    (tmp_path / "in/linked").symlink_to(tmp_path / "outside")
    assert paths(plan_input(str(tmp_path / "in"))) == ["a.jpg"]


def test_a_single_file_of_any_name(tmp_path):
    make(tmp_path, "scan", "all.tfrecord")
    assert paths(plan_input(str(tmp_path / "scan"))) == ["scan"]
    assert shard_names(plan_input(str(tmp_path / "all.tfrecord"))) == ["all"]


def test_a_glob_takes_all_that_it_matches(tmp_path):
    make(tmp_path, "a.dat", "b.dat", "sub/c.dat", "d.png")
    assert paths(plan_input(f"{tmp_path}/*.dat")) == ["a.dat", "b.dat"]
    assert paths(plan_input(f"{tmp_path}/**/*.dat")) == ["a.dat", "b.dat", "sub/c.dat"]
    assert paths(plan_input(f"{tmp_path}/[ad].*")) == ["a.dat", "d.png"]


def test_a_comma_list_is_one_input_without_doubles(tmp_path):
    make(tmp_path, "x/a.jpg", "y/b.jpg", "y/c.jpg")
    plan = plan_input(f"{tmp_path}/x, {tmp_path}/y/*.jpg,{tmp_path}/y/b.jpg,")
    assert paths(plan) == ["x/a.jpg", "y/b.jpg", "y/c.jpg"]
    assert plan.shards[0].root == str(tmp_path)


def test_at_count_finds_any_spelling(tmp_path):
    make(tmp_path, "t-00000-of-00003.tfrecord", "t.tfrecord-00001-of-00003", "t-00002-of-00003")
    plan = plan_input(f"{tmp_path}/t@3")
    assert shard_names(plan) == [f"t-0000{n}-of-00003" for n in (0, 2, 1)]  # by file name
    make(tmp_path, "t-00002-of-00003.tfrecord")
    assert len(plan_input(f"{tmp_path}/t.tfrecord@3").shards) == 3


def test_at_count_names_the_missing_shard(tmp_path):
    make(tmp_path, "t-00000-of-00003.tfrecord", "t-00002-of-00003.tfrecord")
    with pytest.raises(InputError, match=r"shard 1 is missing.*t-00001-of-00003\.tfrecord"):
        plan_input(f"{tmp_path}/t.tfrecord@3")
    with pytest.raises(InputError, match="shard 0 is missing"):
        plan_input(f"{tmp_path}/t.tfrecord@99999999999")


def test_at_zero_names_nothing_and_is_refused(tmp_path):
    with pytest.raises(InputError, match="@0"):
        plan_input(f"{tmp_path}/t.tfrecord@0")


def test_a_relative_pattern_and_the_home_folder(tmp_path, monkeypatch):
    make(tmp_path, "pics/a.jpg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for pattern in ("pics", "./pics/", "pics/../pics", "pics/*.jpg", "~/pics"):
        plan = plan_input(pattern)
        assert (paths(plan), plan.shards[0].root) == (["a.jpg"], str(tmp_path / "pics")), pattern


def test_a_folder_whose_name_looks_like_a_glob(tmp_path):
    make(tmp_path, "set[1]/a.jpg", "set1/b.jpg", "set*/c.jpg")
    for name, file in (("set[1]", "a.jpg"), ("set*", "c.jpg")):
        plan = plan_input(str(tmp_path / name))
        assert paths(plan) == [file]
        assert plan.shards[0].root == str(tmp_path / name)


def test_odd_names_are_found_and_can_be_read(tmp_path):
    names = ["with space.jpg", "ünï.jpg", "line\nbreak.jpg", "a,b.jpg", "quote'\".jpg", "@3.jpg"]
    make(tmp_path, *names)
    (tmp_path / os.fsdecode(b"latin-\xe9.jpg")).write_bytes(b"1")
    plan = plan_input(str(tmp_path))
    again = Plan.from_lines(plan.to_lines())
    assert sorted(paths(again)) == sorted([*names, os.fsdecode(b"latin-\xe9.jpg")])
    for file in again.shards[0].files:
        assert storage.read_bytes(f"{again.shards[0].root}/{file.path}")


# ---- refusing


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("", "--input is empty"),
        (" , ,", "--input is empty"),
        ("nothing", "there is no such file or folder"),
        ("*.jpg", r"no files match .*\*\.jpg; check the path, and quote a glob"),
        ("empty", "holds 0 files, but no images"),
        ("texts", "holds 2 files, but no images"),
        ("pics,nothing", "nothing: there is no such"),
        ("gs://", "expected gs://BUCKET/NAME"),
        ("gs://bucket/../x", "without empty parts"),
    ],
)
def test_an_input_that_gives_nothing_is_explained(tmp_path, monkeypatch, pattern, message):
    make(tmp_path, "texts/a.txt", "texts/b", "pics/a.jpg")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        plan_input(pattern)


def test_images_and_tfrecord_files_together_are_refused(tmp_path):
    make(tmp_path, "a.jpg", "b.tfrecord")
    with pytest.raises(InputError, match=r"both TFRecord files \(b.tfrecord\).*\(a.jpg\)"):
        plan_input(str(tmp_path))
    assert plan_input(f"{tmp_path}/*.tfrecord").kind == "tfrecord"


def test_tfrecord_files_of_one_name_are_refused(tmp_path):
    make(tmp_path, "a.tfrecord", "a.tfrecord.gz", "b.tfrecord")
    with pytest.raises(InputError, match=r"a.tfrecord and a.tfrecord.gz would both become shard a"):
        plan_input(str(tmp_path))


def test_tfrecord_files_that_differ_by_case_only_are_refused(tmp_path):
    make(tmp_path, "a.tfrecord", "A.tfrecord")
    with pytest.raises(InputError, match=r"A.tfrecord and a.tfrecord would both become"):
        plan_input(str(tmp_path))


def test_a_tfrecord_file_whose_name_is_no_text_is_refused(tmp_path):
    (tmp_path / os.fsdecode(b"latin-\xe9.tfrecord")).write_bytes(b"")
    with pytest.raises(InputError, match=r"latin-\\xe9.tfrecord.*rename"):
        plan_input(str(tmp_path))


def test_an_unreadable_folder_is_named(tmp_path, monkeypatch):
    make(tmp_path, "in/a.jpg")

    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"cannot read .*/in: Permission denied"):
        plan_input(str(tmp_path / "in"))


def test_files_per_shard_must_be_positive():
    with pytest.raises(InputError, match="must be at least 1"):
        cut(Listing("/r", (("a.jpg", 1),)), 0)


# ---- cutting


@given(st.integers(0, 400), st.integers(1, 60))
def test_shards_are_equal_to_within_one_and_lose_nothing(count, files_per_shard):
    files = tuple((f"{n:05}.jpg", n) for n in range(count))
    shards = list(cut_images("/data/set", files, files_per_shard))
    sizes = [len(shard.files) for shard in shards]
    assert [(f.path, f.size_bytes) for shard in shards for f in shard.files] == list(files)
    assert not sizes or (max(sizes) <= files_per_shard and max(sizes) - min(sizes) <= 1)
    assert len(shards) == -(-count // files_per_shard)  # the fewest
    assert [shard.name for shard in shards] == [
        f"set-{n:05}-of-{len(shards):05}" for n in range(len(shards))
    ]


@pytest.mark.parametrize(
    ("folder", "stem"),
    [("/", "images"), ("/.hidden", "hidden"), ("/ü/", "images"), ("/a b/..-x", "x")],
)
def test_the_stem_of_virtual_shards_is_safe(folder, stem):
    (shard,) = cut_images(folder, [("a.jpg", 1)], 9)
    assert shard.name == f"{stem}-00000-of-00001"


def test_a_long_folder_name_leaves_room_for_the_names_of_shards():
    (shard,) = cut_images("/" + "x" * 255, [("a.jpg", 1)], 9)
    assert len(f"{shard.name}.parquet") <= 255


def test_many_shard_files_are_cut_in_reasonable_time():
    files = tuple((f"t-{n:05}-of-20000.tfrecord", 1) for n in range(20000))
    assert len(cut(Listing("/r", files)).shards) == 20000


@given(st.dictionaries(NAMES, SIZES, min_size=1, max_size=8))
def test_output_names_are_unique_also_without_case(files):
    try:
        names = output_names(list(files))
    except InputError:
        folded = [path.casefold() for path in files]
        stems = {os.path.splitext(path)[0].casefold() for path in files}
        assert len(set(folded)) < len(folded) or stems & set(folded)
        return
    assert list(names) == list(files)
    assert len({name.casefold() for name in names.values()}) == len(files)
    for path, name in names.items():
        assert name in (path, os.path.splitext(path)[0])


def test_images_that_share_a_stem_keep_their_extension():
    names = output_names(["x/a.jpg", "x/a.png", "x/b.jpg", "y/a.jpg", "c/P.jpg", "c/p.png"])
    assert list(names.values()) == ["x/a.jpg", "x/a.png", "x/b", "y/a", "c/P.jpg", "c/p.png"]


@pytest.mark.parametrize("pair", [("a.jpg", "A.JPG"), ("a.jpg", "A.jpg"), ("ß.png", "SS.png")])
def test_paths_that_differ_by_case_only_are_refused(pair):
    with pytest.raises(InputError, match="would be written to one file"):
        output_names(pair)


def test_an_output_name_that_another_image_needs_is_refused():
    with pytest.raises(InputError, match=r"a\.jpg and a\.jpg\.tif"):
        output_names(["a.jpg", "a.jpg.tif", "a.png"])


# ---- the plan file


@given(st.lists(st.builds(Shard, NAMES, NAMES, SIZES, st.lists(IMAGES, max_size=3).map(tuple))))
def test_a_plan_comes_back_from_its_lines(shards):
    kind = "tfrecord" if all(shard.is_examples for shard in shards) else "images"
    plan = Plan(tuple(shards), kind)
    text = plan.to_lines()
    assert text.isascii() and text.count("\n") == len(shards)
    assert Plan.from_lines(text) == plan
    assert Plan.from_lines(text).digest() == plan.digest()


@given(st.dictionaries(NAMES, SIZES, min_size=1, max_size=5), st.data())
def test_the_digest_follows_names_and_sizes(files, data):
    def digest(listing):
        return Plan(tuple(cut_images("/r", tuple(listing.items()), 3)), "images").digest()

    assume(len({name.casefold() for name in files}) == len(files))
    changed = data.draw(st.sampled_from(sorted(files)))
    try:
        before = digest(files)
        without = digest({name: size for name, size in files.items() if name != changed})
    except InputError:
        return
    assert digest(files) == before
    assert digest({**files, changed: files[changed] + 1}) != before
    assert without != before


@pytest.mark.parametrize("text", ["{", "[]\n", '{"name": 1}\n', "null\n", '{"shape": 2}\n'])
def test_what_is_no_plan_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"\S"):
        Plan.from_lines(text)


def test_listing_twice_gives_the_same_plan(tmp_path):
    make(tmp_path, *(f"{n % 7}/{n}.jpg" for n in range(60)))
    assert plan_input(str(tmp_path), 9).digest() == plan_input(str(tmp_path), 9).digest()
    assert list_input(str(tmp_path)) == list_input(f"{tmp_path}/")


# ---- masks beside their images


def pairs(*names):
    images, masks = pair_masks([(name, 1) for name in names])
    return [path for path, _ in images], masks


def test_masks_by_suffix():
    assert pairs("a.jpg", "a_mask.png", "b.jpg") == (["a.jpg", "b.jpg"], {"a.jpg": "a_mask.png"})


def test_masks_by_folder_with_any_extension():
    images, masks = pairs("x/images/a.jpg", "x/images/b.jpg", "x/masks/a.png", "x/masks/b.bmp")
    assert images == ["x/images/a.jpg", "x/images/b.jpg"]
    assert masks == {"x/images/a.jpg": "x/masks/a.png", "x/images/b.jpg": "x/masks/b.bmp"}


def test_the_suffix_comes_before_the_folder():
    images, masks = pairs("images/a.jpg", "images/a_mask.png", "masks/a.png")
    assert masks == {"images/a.jpg": "images/a_mask.png"}
    assert images == ["images/a.jpg", "masks/a.png"]


@pytest.mark.parametrize(
    "names",
    [
        ("a_mask.png",),
        ("a.jpg", "a.png"),
        ("a.jpg", "b_mask.png"),
        ("images/a.jpg", "masks/b.png"),
        ("a.jpg", "sub/a_mask.png"),
        ("a.jpg", "a_MASK.png"),
        ("myimages/a.jpg", "mymasks/a.jpg"),
    ],
)
def test_what_is_no_pair(names):
    assert pairs(*names) == (list(names), {})


@given(
    st.sets(
        st.sampled_from(
            [
                f"{d}{s}{m}.png"
                for d in ("", "images/", "masks/")
                for s in "ab"
                for m in ("", "_mask")
            ]
        )
    )
)
def test_no_file_is_lost_by_pairing(names):
    images, masks = pairs(*sorted(names))
    assert set(images) | set(masks.values()) == names
    assert not set(images) & set(masks.values())

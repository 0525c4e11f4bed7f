"""WebDataset tar: its conventions, what hostile archives cost, and how little memory."""

import gzip
import io
import json
import random
import tarfile
import tracemalloc
import zlib
from typing import Any

import pytest
from format_examples import END, example, member, named, picture, shard_file, text_of, usual

from transforms.formats import base, tar, tar_members
from transforms.formats.base import BadRecord
from transforms.formats.plain import parsed


def read(data: bytes) -> list[bytes | BadRecord]:
    return list(tar.read_examples(io.BytesIO(data)))


def archive(examples: list[bytes]) -> bytes:
    return shard_file(tar.open_writer, examples, "")


PNG, JPEG = picture(1), picture(2, "JPEG")
GOOD = member("good.png", PNG) + member("good.cls", b"1")


def problem(data: bytes) -> BadRecord:
    """The one record that is bad; what follows it is good."""
    bad, *rest = read(data)
    assert isinstance(bad, BadRecord)
    assert [named(each)["image/class/label"].int64_list.value[0] for each in rest] == [1]
    return bad


def test_fields_become_features() -> None:
    (record,) = read(
        member("./a/b.seg.png", PNG)
        + member("./a/b.JPG", JPEG)
        + member("./a/b.cls", b"7\n")
        + member("./a/b.json", b'{"caption": {"en": "x"}}')
        + member("./a/b.depth.npy", b"\x93NUMPY")
        + END
    )
    features = named(record)
    assert features.keys() == {
        *("image/encoded", "image/filename", "image/class/label", "json", "depth.npy"),
        "image/segmentation/class/encoded",
    }
    assert text_of(features["image/encoded"]) == JPEG
    assert text_of(features["image/segmentation/class/encoded"]) == PNG
    assert features["image/class/label"].int64_list.value == [7]
    assert text_of(features["json"]) == b'{"caption": {"en": "x"}}'
    assert text_of(features["image/filename"]) == b"./a/b"
    # and once more: others' fields stay what they were
    with tarfile.open(fileobj=io.BytesIO(archive([record]))) as again:
        assert again.getnames() == [
            *("_/a/b.jpg", "_/a/b.seg.png", "_/a/b.depth.npy", "_/a/b.cls", "_/a/b.json"),
            "_/a/b.features.json",
        ]
    assert read(archive([record])) == [record]


def test_a_label_that_is_text_stays_text() -> None:
    (record,) = read(member("a.png", PNG) + member("a.cls", b"cat") + END)
    assert text_of(named(record)["cls"]) == b"cat"
    assert "image/class/label" not in named(record)


def test_a_picture_with_a_compound_extension() -> None:
    (record,) = read(member("a.rgb.png", PNG) + member("a.mask.png", JPEG) + END)
    assert text_of(named(record)["image/encoded"]) == PNG
    assert text_of(named(record)["image/segmentation/class/encoded"]) == JPEG


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("22.0/1.1.png", "22_0/1_1"),
        ("../../etc/passwd.jpg", "_/_/etc/passwd"),
        ("/root/x.png", "root/x"),
        ("C:\\a\\b.jpg", "C_/a/b"),
        ("con.png", "_con"),
        ("", "_"),
        ("...", "___"),
        ("photo", "photo"),
        ("ä.TIFF", "ä"),
        ("a" * 300 + ".png", f"{'a' * 111}-{zlib.crc32(b'a' * 300):08x}"),
    ],
)
def test_names_are_made_safe_and_kept(name: str, key: str) -> None:
    made = example(image__encoded=PNG, image__filename=name.encode())
    data = archive([made, made])
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        first, *_, last = opened.getnames()
    assert first == f"{key}.png"
    assert last == f"{key}-2.features.json", "names that are alike are told apart"
    assert read(data) == [made, made]


def test_archives_are_reproducible_and_say_nothing_of_the_machine() -> None:
    with tarfile.open(fileobj=io.BytesIO(archive([usual(0)]))) as opened:
        for info in opened:
            facts = (info.mtime, info.uid, info.gid, info.uname, info.gname, info.mode)
            assert facts == (0, 0, 0, "", "", 0o444)
    packed = shard_file(tar.open_gzip_writer, [usual(0)], "")
    assert gzip.decompress(packed) == archive([usual(0)])
    assert packed[4:8] == bytes(4), "no time"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (member("../../etc/passwd.png", PNG), "leads out"),
        (member("a/../../b.png", PNG), "leads out"),
        (member("x\\..\\b.png", PNG), "leads out"),
        (member("/etc/passwd.png", PNG), "absolute"),
        (member("C:\\x.png", PNG), "absolute"),
        (member("a.png", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "a symbolic link"),
        (member("a.png", type=tarfile.LNKTYPE, linkname="good.png"), "a hard link"),
        (member("a.png", type=tarfile.CHRTYPE), "a device"),
        (member("README", type=tarfile.BLKTYPE), "a device"),
        (member("a.png", type=tarfile.FIFOTYPE), "a pipe"),
        (member("a.png", PNG, type=b"?"), "unknown type"),
        (member("a.png", PNG) + member("a.png", JPEG), "twice"),
        (member("a.png", PNG) + member("a.PNG", JPEG), "twice"),
        (member("a.png", PNG) + member("a.json", type=tarfile.SYMTYPE), "a symbolic link"),
        (member("a.png", PNG, pax_headers={"GNU.sparse.major": "1"}), "a sparse file"),
        (member("a.png", PNG, pax_headers={"size": "x"}), "no number"),
        (member("a.png", PNG) + member("a.\udce9", b"x"), "no text"),
        (member("a.png", PNG) + member("a.features.json", b"[1]"), "no object"),
        (member("a.png", PNG) + member("a.features.json", b"{"), "damaged"),
        (member("a.png", PNG) + member("a.features.json", b"[" * 100_000), "damaged"),
        (member("a.png", PNG) + member("a.features.json", b'{"x": {"member": "y"}}'), "no member"),
        (member("a.png", PNG) + member("a.features.json", b'{"x": {"base64": ["?"]}}'), "no value"),
    ],
)
def test_a_forbidden_or_damaged_member_costs_its_record(bad: bytes, message: str) -> None:
    found = problem(bad + GOOD + END)
    assert message in found.message
    assert not found.last


@pytest.mark.parametrize("size", [base.MAX_RECORD_BYTES + 1, 10**12])
def test_a_declared_size_allocates_nothing(size: int) -> None:
    huge = tarfile.TarInfo("a.png")
    huge.size = size
    tracemalloc.start()
    found = read(huge.tobuf(tarfile.GNU_FORMAT) + PNG + END)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 24
    assert [isinstance(each, BadRecord) and each.last for each in found] == [False, True]
    assert "more than the" in str(found[0])


def test_a_large_member_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_members, "MAX_RECORD_BYTES", 1000)
    found = problem(member("a.png", bytes(1001)) + member("a.cls", b"5") + GOOD + END)
    assert "more than the 1,000 allowed" in found.message


def test_many_members_of_one_record_are_too_large_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "MAX_RECORD_BYTES", 1000)
    parts = b"".join(member(f"a.{i}.bin", bytes(300)) for i in range(9))
    assert "over the 1,000 bytes" in problem(parts + GOOD + END).message


def test_a_bomb_in_an_extended_header_is_not_held() -> None:
    huge = tarfile.TarInfo("x")
    huge.type, huge.size = tarfile.XHDTYPE, 1 << 26
    data = gzip.compress(huge.tobuf() + bytes(1 << 26) + member("a.png", PNG) + GOOD + END)
    tracemalloc.start()
    found = problem(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "extended header" in found.message
    assert peak < 1 << 24


@pytest.mark.parametrize("block", [b"\xff" * 512, bytes(range(256)) * 2])
def test_after_a_damaged_header_the_next_whole_one_is_found(block: bytes) -> None:
    first = member("a.png", PNG) + member("a.cls", b"0")
    cut = len(member("a.png", PNG))
    data = first[:cut] + block + first[cut + 512 :] + GOOD + END
    found = problem(data)
    assert f"no header at byte {cut:,}" in found.message
    assert "record 'a'" in found.message


def test_what_is_no_archive_says_so() -> None:
    found = read(b"no tar at all" * 1000)
    assert [each.last for each in found if isinstance(each, BadRecord)] == [False, True]
    assert "no tar archive" in str(found[0])


@pytest.mark.parametrize("packed", [False, True])
def test_every_cut_is_noticed_and_what_was_whole_is_kept(packed: bool) -> None:
    examples = [usual(index) for index in range(3)]
    data = archive(examples)
    members = []
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        members = [(info.name, info.offset_data + info.size) for info in opened]
    for cut in range(512, members[-1][1], 700):
        part = data[:cut]
        found = read(gzip.compress(part, 1) if packed else part)
        assert isinstance(found[-1], BadRecord)
        assert found[-1].last
        whole = [e for e in found if isinstance(e, bytes)]
        assert whole == examples[: len(whole)]
        ends = [end for name, end in members if name.endswith("features.json")]
        assert len(whole) >= sum(1 for end in ends if end + 1024 < cut) - 1
    stream = gzip.compress(data)
    for cut in range(20, len(stream) - 1, 97):
        found = read(stream[:cut])
        assert isinstance(found[-1], BadRecord), cut
        assert found[-1].last


def test_joined_archives_are_told() -> None:
    *whole, bad = read(archive([usual(0)]) + archive([usual(1)]))
    assert whole == [usual(0)]
    assert "behind the end mark" in str(bad)


def test_damage_anywhere_never_passes_in_silence() -> None:
    examples = [usual(index) for index in range(2)]
    data = archive(examples)
    for at in range(0, 512, 3):  # of the first header
        damaged = data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]
        found = read(damaged)
        assert found == examples or any(isinstance(each, BadRecord) for each in found), at


def test_what_others_put_beside_records_is_left_out() -> None:
    found = read(
        member("folder", type=tarfile.DIRTYPE)
        + member("README", b"text")
        + member("._a.png", b"resource fork")
        + member("pax_global_header", b"52 comment=x\n", type=tarfile.XGLTYPE)
        + GOOD
        + END
    )
    assert len(found) == 1
    assert text_of(named(found[0])["image/filename"]) == b"good"


def test_long_and_foreign_names() -> None:
    name = "ordner/" + "ü" * 200
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        (record,) = read(member(f"{name}.png", PNG, format=form) + END)
        assert text_of(named(record)["image/filename"]) == name.encode()


def test_the_table_of_a_record_is_plain_json() -> None:
    with tarfile.open(fileobj=io.BytesIO(archive([usual(3)]))) as opened:
        table: dict[str, Any] = json.load(opened.extractfile(opened.getnames()[-1]))  # type: ignore[arg-type]
    assert table["weights"] == [0.1, 3.0]
    assert table["image/height"] == 4
    assert table["image/filename"] == "left/photo 3.v2.jpg"
    assert table["image/encoded"] == {"member": "jpg"}
    assert parsed(usual(3))["weights"].float_list.value[0] != 0.1, "a float32"


def test_no_damage_stops_the_reader() -> None:
    data = archive([usual(index) for index in range(2)])
    rng = random.Random(0)
    for _ in range(400):
        damaged = bytearray(data)
        for _ in range(rng.choice([1, 1, 5, 100])):
            damaged[rng.randrange(len(data))] = rng.randrange(256)
        for each in read(bytes(damaged[: rng.choice([None, rng.randrange(len(data))])])):
            assert isinstance(each, BadRecord) or parsed(each) is not None

"""Hostile names and bytes: nothing leaves OUT, memory is bounded, every loss is told."""

import gzip
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from transforms import storage
from transforms.failures import Failure
from transforms.formats.tfrecord import masked_crc32c, read_records, write_record
from transforms.inputs import Shard, folded, output_names, plan_input
from transforms.listing import InputError
from transforms.records import Encoded, Result
from transforms.shard_work import process_shard
from transforms.sink import Sink
from transforms.sources import read_shard

NAMES = [
    "../../escaped.png",
    "/etc/escaped.png",
    "..\\..\\escaped.png",
    "C:\\escaped.png",
    "file:///tmp/escaped.png",
    "a\0b.png",
    "".join(map(chr, range(1, 32))),
    "\x1b[2J\x1b]0;title\x07",
    "n" * 300,
    "\u202egnp.exe",
    "p\u0430ypal.png",  # a Cyrillic a
    "paypal.png",
    "PAYPAL.png",
    "caf\u00e9.png",
    "cafe\u0301.png",
    "\ufeff\u200b",
    "<script>alert(1)</script>",
    "=cmd|' /C calc'!A0",
    "'; DROP TABLE records; --",
    "%2e%2e%2fescaped",
    "~2",
    "s/00000003",
    ".",
    "",
]


def hostile_shard(folder, keys):
    """A TFRecord shard with these keys; every fifth record has no picture."""
    path = folder / "in.tfrecord"
    with path.open("wb") as file:
        for number, key in enumerate(keys):
            example = tf.train.Example()
            features = example.features.feature
            features["image/filename"].bytes_list.value.append(key.encode("utf-8", "surrogatepass"))
            if number % 5 != 4:
                features["image/encoded"].bytes_list.value.append(b"%d" % number)
            features["../../x"].bytes_list.value.append(b"a feature with a bad name")
            write_record(file, example.SerializeToString())
    return Shard("s", str(path), path.stat().st_size)


def copy_bytes(shard, _clock):
    for record, load in read_shard(shard):
        if isinstance(load, Failure):
            yield record, load
        else:
            yield record, Result({"masks": Encoded(load(), "png")}, {}, {"pixels": 1})


def outside(folder):
    """All files of a folder but those below OUT, with their content."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "out" not in path.relative_to(folder).parts[:1]
    }


def check_keys(folder, keys):
    shard = hostile_shard(folder, keys)
    before = outside(folder)
    sink = Sink(str(folder / "out"), "masks", "tfrecord", pa.schema([]))
    report = process_shard(shard, lambda: copy_bytes, sink)
    assert report.error is None
    assert report.read == len(keys) == report.written + report.failed
    assert outside(folder) == before
    assert {path for path, _ in storage.list_files(sink.root)} == {
        "masks/s.tfrecord",
        "metrics/s.json",
        "records/s.parquet",
    }
    rows = pq.read_table(f"{sink.root}/records/s.parquet").to_pylist()
    assert len({row["key"] for row in rows}) == len(keys)
    for key, row in zip(keys, rows, strict=True):
        given_key = key.encode("utf-8", "surrogatepass").decode("utf-8", "backslashreplace")
        assert row["key"].startswith(given_key)


def test_keys_are_names_not_paths(tmp_path):
    check_keys(tmp_path, NAMES)


@given(st.lists(st.one_of(st.sampled_from(NAMES), st.text(max_size=30)), min_size=1, max_size=9))
def test_any_keys(tmp_path_factory, keys):
    check_keys(tmp_path_factory.mktemp("keys"), keys)


# ---- names of objects, which may be what those of files cannot


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a\0b.png", "cannot be the name of a file"),
        ("a/../../b.png", "cannot be the name of a file"),
        ("a//b.png", "cannot be the name of a file"),
        ("./b.png", "cannot be the name of a file"),
        ("/etc/b.png", "cannot be the name of a file"),
        ("n" * 300 + ".png", "over 255 bytes"),
        ("n" * 300 + "/b.png", "over 255 bytes"),
    ],
)
def test_a_name_that_no_file_can_have_is_refused(name, message):
    with pytest.raises(InputError, match=message):
        output_names(["good.png", name])


@pytest.mark.parametrize(
    "pair", [("caf\u00e9.png", "cafe\u0301.png"), ("\u212b.png", "\u00e5.png"), ("a.png", "A.png")]
)
def test_names_that_a_file_system_takes_for_one_are_refused(pair):
    with pytest.raises(InputError, match="written to one file; rename one"):
        output_names(pair)


def test_names_that_only_look_alike_stay_apart():
    names = ["paypal.png", "p\u0430ypal.png", "o\u0300.png", "\u043e\u0300.png"]
    assert len(set(output_names(names).values())) == 4


@given(st.lists(st.text(min_size=1, max_size=12), max_size=6, unique=True))
def test_output_names_stay_below_the_folder(names):
    try:
        made = output_names(names)
    except InputError:
        return
    for name in made.values():
        path = os.path.normpath(os.path.join("/out", name))
        assert path.startswith("/out/") and "\0" not in path
    assert len({folded(name) for name in made.values()}) == len(names)


def test_objects_with_such_names(gcs, monkeypatch):
    gcs.put("in/good.png", b"x")  # the service takes others; the emulator does not
    names = ["../up.png", "a//b.png", "good.png", ".hidden.png", "a/./b.png"]
    monkeypatch.setattr("transforms.storage_gcs._list", lambda _: ((name, 1) for name in names))
    plan = plan_input("gs://bucket/in")
    assert [file.path for shard in plan.shards for file in shard.files] == ["good.png"]
    names.append("a\0b.png")
    with pytest.raises(InputError, match="cannot be the name of a file"):
        plan_input("gs://bucket/in")


# ---- links


def test_links_in_out_are_replaced_never_written_through(tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    out = tmp_path / "out"
    (out / "m").mkdir(parents=True)
    for name in ("a", "b", "c", "d"):
        (out / "m" / name).symlink_to(victim)
    storage.write(str(out), "m/a", b"new")
    storage.write_unsynced(str(out), "m/b", b"new")
    assert not storage.create_once(str(out), "m/c", b"new")
    assert storage.exchange(str(out), "m/c", b"precious", b"new")
    storage.delete(f"{out}/m/d")
    (out / "m/link").symlink_to(tmp_path)
    storage.delete_tree(f"{out}/m/link")
    assert victim.read_bytes() == b"precious"
    assert sorted(os.listdir(out / "m")) == ["a", "b", "c"]
    assert not any((out / "m" / name).is_symlink() for name in "abc")


# ---- bombs


# Not ru_maxrss: on Linux that begins with the peak of the process that started this one.
PEAK = """
def p():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
"""


def measured(code: str, *arguments: str) -> int:
    """Runs Python apart; by how many bytes its memory grew after its imports."""
    process = subprocess.run(
        [sys.executable, "-c", f"{PEAK}{code}", *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return int(process.stdout)


READ = """
import sys
from transforms.formats.tfrecord import read_records, BadRecord
before = p()
with open(sys.argv[1], "rb") as file:
    found = [r for r in read_records(file) if isinstance(r, BadRecord)]
assert len(found) == int(sys.argv[2]), found
print(p() - before)
"""


def framed_zeros(file, length: int) -> None:
    """A record of zeros that is larger than may be held; its last checksum is wrong."""
    packed = struct.pack("<Q", length)
    file.write(packed + struct.pack("<I", masked_crc32c(packed)))
    for _ in range(length >> 20):
        file.write(bytes(1 << 20))
    file.write(bytes(4))


def test_a_gzip_bomb_costs_its_record_and_little_memory(tmp_path):
    path = tmp_path / "bomb.tfrecord.gz"
    with gzip.open(path, "wb", 1) as file:
        framed_zeros(file, 512 << 20)
        write_record(file, b"behind it")
    assert path.stat().st_size < 5 << 20
    assert measured(READ, str(path), "1") < 32 << 20
    with path.open("rb") as file:
        assert list(read_records(file))[1] == b"behind it"


def test_a_length_of_exabytes_takes_no_memory(tmp_path):
    path = tmp_path / "claim.tfrecord"
    packed = struct.pack("<Q", 1 << 62)
    path.write_bytes(packed + struct.pack("<I", masked_crc32c(packed)) + b"x")
    assert measured(READ, str(path), "1") < 16 << 20


@pytest.mark.parametrize("depth", [50, 5_000, 200_000])
def test_protos_of_any_depth_and_length_fail_alone(tmp_path, depth):
    nested = b""
    for _ in range(min(depth, 400)):
        nested = b"\x0a" + _varint(len(nested)) + nested
    claims = b"\x0a" + _varint(depth * 10_000) + b"short"
    path = tmp_path / "in.tfrecord"
    with path.open("wb") as file:
        for data in (nested, claims, b"\x0b" * depth, zlib.compress(bytes(depth))):
            write_record(file, data)
    got = list(read_shard(Shard("s", str(path), path.stat().st_size)))
    assert len(got) == 4
    assert all(isinstance(load, Failure) for _, load in got)


def _varint(value: int) -> bytes:
    found = b""
    while value > 127:
        found += bytes([value & 127 | 128])
        value >>= 7
    return found + bytes([value])


def test_a_file_of_no_bytes_is_a_shard_of_no_records(tmp_path):
    path = Path(tmp_path / "in.tfrecord")
    path.write_bytes(b"")
    assert list(read_shard(Shard("s", str(path), 0))) == []

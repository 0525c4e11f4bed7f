"""TFRecord files: TensorFlow reads ours, we read its, and damage is never silent."""

import gzip
import io
import random
import struct

import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from transforms.formats import tfrecord, unpacked
from transforms.formats.tfrecord import BadRecord, masked_crc32c, read_records, write_record

RECORDS = [b"first", b"", b"x" * 300, b"\0" * 17, "snow ☃".encode(), b"last"]
FRAME_BYTES = 16


def framed(records) -> bytes:
    file = io.BytesIO()
    for record in records:
        write_record(file, record)
    return file.getvalue()


def read(data: bytes) -> list[bytes | BadRecord]:
    return list(read_records(io.BytesIO(data)))


def header(length: int) -> bytes:
    packed = struct.pack("<Q", length)
    return packed + struct.pack("<I", masked_crc32c(packed))


def assert_nothing_silent(got, records):
    """Every record is equal or bad; what is missing was announced by a last bad record."""
    for index, record in enumerate(got):
        if isinstance(record, BadRecord):
            assert record.message
            assert not record.last or index == len(got) - 1
        else:
            assert index < len(records) and record == records[index]
    if len(got) < len(records):
        assert got and isinstance(got[-1], BadRecord) and got[-1].last


@pytest.mark.parametrize("compression", [None, "GZIP"])
def test_what_tensorflow_writes_is_read_equal(tmp_path, compression):
    path = tmp_path / "a.tfrecord"
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for record in RECORDS:
            writer.write(record)
    assert read(path.read_bytes()) == RECORDS


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_what_we_write_is_read_by_tensorflow(tmp_path, compression):
    path = tmp_path / "a.tfrecord"
    data = framed(RECORDS)
    path.write_bytes(gzip.compress(data) if compression else data)
    dataset = tf.data.TFRecordDataset(str(path), compression_type=compression)
    assert list(dataset.as_numpy_iterator()) == RECORDS


@given(st.lists(st.binary(max_size=200), max_size=8), st.booleans())
def test_round_trip(records, compressed):
    data = framed(records)
    assert read(gzip.compress(data) if compressed else data) == records


@pytest.mark.parametrize("compressed", [False, True])
def test_any_flipped_byte_is_noticed(compressed):
    data = gzip.compress(framed(RECORDS), mtime=0) if compressed else framed(RECORDS)
    rng = random.Random(1)
    for position in range(len(data)):
        for flip in {1 << rng.randrange(8), rng.randrange(1, 256)}:
            damaged = bytearray(data)
            damaged[position] ^= flip
            assert_nothing_silent(read(bytes(damaged)), RECORDS)


def test_a_flipped_byte_of_plain_data_costs_that_record_alone():
    start = len(framed(RECORDS[:2])) + 12
    damaged = bytearray(framed(RECORDS))
    damaged[start + 5] ^= 0x40
    got = read(bytes(damaged))
    assert isinstance(got[2], BadRecord) and not got[2].last and "record 2" in got[2].message
    assert got[:2] + got[3:] == RECORDS[:2] + RECORDS[3:]


def test_a_flipped_byte_of_a_length_ends_the_file():
    damaged = bytearray(framed(RECORDS))
    damaged[len(framed(RECORDS[:1]))] ^= 1
    got = read(bytes(damaged))
    assert got[0] == RECORDS[0] and len(got) == 2 and got[1].last


def test_any_cut_tail_of_a_plain_file_is_noticed_but_between_records():
    data = framed(RECORDS)
    boundaries = {len(framed(RECORDS[:n])): n for n in range(len(RECORDS) + 1)}
    for length in range(len(data)):
        got = read(data[:length])
        if length in boundaries:  # such a file is a whole, shorter file: no reader can tell
            assert got == RECORDS[: boundaries[length]]
        else:
            assert_nothing_silent(got, RECORDS)
            assert isinstance(got[-1], BadRecord)


@pytest.mark.parametrize("level", [0, 1, 9])
def test_any_cut_tail_of_a_gzip_file_is_noticed(level):
    records = [bytes([65 + n % 3]) * (n % 5) for n in range(60)]
    data = gzip.compress(framed(records), level, mtime=0)
    for length in range(1, len(data)):
        got = read(data[:length])
        assert_nothing_silent(got, records)
        assert isinstance(got[-1], BadRecord) and got[-1].last, f"cut to {length}"


@given(st.lists(st.binary(max_size=60), max_size=6), st.binary(min_size=1, max_size=40))
def test_garbage_behind_the_last_record_is_noticed(records, garbage):
    for data in (framed(records) + garbage, gzip.compress(framed(records)) + garbage):
        got = read(data)
        assert got[: len(records)] == records or isinstance(got[-1], BadRecord)
        assert isinstance(got[-1], BadRecord) and got[-1].last


@given(st.binary(min_size=1, max_size=400))
def test_bytes_that_are_no_tfrecord_file_are_bad_not_a_crash(data):
    got = read(data)
    assert isinstance(got[-1], BadRecord) and got[-1].last


def test_an_empty_file_has_no_records():
    assert read(b"") == []
    assert read(gzip.compress(b"")) == []


@pytest.mark.parametrize("length", [(1 << 28) + 1, 1 << 40, (1 << 64) - 1])
def test_a_length_beyond_the_limit_is_refused(length):
    (bad,) = read(header(length) + b"rest")
    assert bad.last and str(length) in bad.message and "ends within it" in bad.message


@pytest.mark.parametrize("compressed", [False, True])
def test_a_record_beyond_the_limit_costs_itself(monkeypatch, compressed):
    monkeypatch.setattr(tfrecord, "MAX_RECORD_BYTES", 299)
    data = framed(RECORDS)
    got = read(gzip.compress(data) if compressed else data)
    assert isinstance(got[2], BadRecord) and not got[2].last
    assert "has 300 bytes, more than the 299 allowed" in got[2].message
    assert got[:2] + got[3:] == RECORDS[:2] + RECORDS[3:]


def test_a_length_beyond_the_file_is_a_cut_file_and_allocates_nothing():
    class Counting(io.BytesIO):
        asked = 0

        def read(self, size=-1):
            self.asked = max(self.asked, size)
            return super().read(size)

    file = Counting(header(1 << 28) + b"short")
    (bad,) = read_records(file)
    assert bad.last and "5 of 268435456 bytes" in bad.message
    assert file.asked <= 32 << 20


@pytest.mark.parametrize("extra", [-1, 0, 1, 12])
@pytest.mark.parametrize("compressed", [False, True])
def test_records_around_and_above_the_chunk_size(monkeypatch, extra, compressed):
    monkeypatch.setattr(unpacked, "_CHUNK_BYTES", 64)
    rng = random.Random(2)
    sizes = [64 + extra, 3, 64 * 16 + extra, 64 * 40 + extra, 0, 5]
    records = [rng.randbytes(size) for size in sizes]
    data = framed(records)
    assert read(gzip.compress(data) if compressed else data) == records
    assert_nothing_silent(read(data[:-7]), records)


def test_one_record_of_several_megabytes():
    record = random.Random(3).randbytes(3_500_000)
    assert read(framed([b"a", record, b"b"])) == [b"a", record, b"b"]
    assert read(gzip.compress(framed([b"a", record, b"b"]), 1)) == [b"a", record, b"b"]


def test_several_gzip_members_are_one_stream():
    data = framed(RECORDS)
    for cut in (0, 1, 13, len(data) // 2, len(data)):
        members = [data[:cut], b"", data[cut:]]
        assert read(b"".join(gzip.compress(member) for member in members)) == RECORDS


def test_several_gzip_members_across_tiny_chunks(monkeypatch):
    monkeypatch.setattr(unpacked, "_CHUNK_BYTES", 7)
    data = b"".join(gzip.compress(framed([record])) for record in RECORDS)
    assert read(data) == RECORDS


def test_a_huge_claim_in_a_gzip_bomb_inflates_one_piece_only(monkeypatch):
    monkeypatch.setattr(unpacked, "_CHUNK_BYTES", 1 << 12)
    bomb = gzip.compress(header(1 << 40) + bytes(1 << 22), 9)
    stream = unpacked.Gunzip(b"", io.BytesIO(bomb))
    stream.read(12)
    assert len(stream._ready) <= 1 << 12
    (bad,) = read(bomb)
    assert bad.last and "allowed" in bad.message


def test_errors_of_the_storage_are_raised():
    class Broken(io.BytesIO):
        def read(self, size=-1):
            raise OSError("disk on fire")

    with pytest.raises(OSError, match="fire"):
        list(read_records(Broken()))


def test_the_checksum_is_the_one_of_the_format():
    # length 0 as TensorFlow writes it: 8 zero bytes and their masked checksum
    assert framed([b""])[8:12] == struct.pack("<I", masked_crc32c(bytes(8)))
    assert masked_crc32c(b"") == 0xA282EAD8
    assert len(framed([b"abc"])) == 3 + FRAME_BYTES

"""gs:// by the real client: conditions, lost answers, pages, checksums, deadlines, credentials."""

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from gcs_server import ALWAYS, CUT, LOST, Fault, GcsServer

from models.errors import UserError
from transforms import gcs_calls, gcs_reader, storage, storage_gcs
from transforms.listing import InputError, list_input

ROOT = "gs://bucket/a folder"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gcs_calls, "_FIRST_WAIT_S", 0.001)


def publish(data: bytes, final: str, **more: Any) -> None:
    temporary = storage.temporary_path(ROOT, "x")
    with storage.open_new(temporary) as file:
        file.write(data)
    storage.publish(temporary, final, **more)
    assert not os.path.exists(temporary)


def test_of_many_creators_exactly_one_wins(gcs: GcsServer) -> None:
    for round_ in range(5):
        made: dict[int, bool] = {}

        def create(number: int, made: dict[int, bool] = made, round_: int = round_) -> None:
            made[number] = storage.create_once(ROOT, f"m/{round_}", b"%d" % number)

        threads = [threading.Thread(target=create, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (winner,) = [number for number, first in made.items() if first]
        assert storage.read_bytes(f"{ROOT}/m/{round_}") == b"%d" % winner


@pytest.mark.parametrize("stored", [LOST, Fault(status=503, stored=True), Fault(truncate=True)])
def test_a_create_whose_answer_was_lost_is_known_as_ours(gcs: GcsServer, stored: Fault) -> None:
    gcs.at(0, stored)
    assert storage.create_once(ROOT, "m", b"mine")
    assert [method for method, _ in gcs.log] == ["POST", "POST", "GET"]


def test_a_create_whose_answer_was_lost_may_still_be_anothers(gcs: GcsServer) -> None:
    gcs.at(0, CUT)

    def another_is_faster(number: int, when: str, _method: str, _path: str) -> None:
        if (number, when) == (2, "before"):
            gcs.put("a folder/m", b"another's")

    gcs.hook = another_is_faster
    assert not storage.create_once(ROOT, "m", b"mine")
    assert gcs.get("a folder/m") == b"another's"


def test_the_same_content_of_another_is_anothers(gcs: GcsServer) -> None:
    gcs.put("a folder/m", b"same")
    assert not storage.create_once(ROOT, "m", b"same")


@pytest.mark.parametrize("size", [3, 9 << 20], ids=["one request", "resumable"])
@pytest.mark.parametrize("fault", [None, Fault(status=503), CUT, LOST, Fault(truncate=True)])
def test_a_replacement_never_goes_over_what_it_did_not_see(
    gcs: GcsServer, size: int, fault: Fault | None
) -> None:
    data = os.urandom(size)
    seen: list[bytes] = []

    def look() -> None:
        seen.append(gcs.get("a folder/x"))
        if len(seen) == 1:
            gcs.put("a folder/x", b"a second one, put there after the look")

    gcs.put("a folder/x", b"the first one")
    if fault is not None:
        gcs.faults = [Fault(**{**fault.__dict__, "method": "POST|PUT", "after": 2})]
    publish(data, f"{ROOT}/x", may_replace=look)
    assert seen == [b"the first one", b"a second one, put there after the look"]
    assert gcs.get("a folder/x") == data


def test_what_is_so_already_is_not_uploaded(gcs: GcsServer) -> None:
    data = os.urandom(9 << 20)
    publish(data, f"{ROOT}/x")
    generation = gcs.generation("a folder/x")

    def refuse() -> None:
        raise AssertionError

    publish(data, f"{ROOT}/x", may_replace=refuse)
    storage.write(ROOT, "x", data, may_replace=refuse)
    assert gcs.generation("a folder/x") == generation
    assert storage.holds(f"{ROOT}/x", data) and not storage.holds(f"{ROOT}/x", data[1:])


@pytest.mark.parametrize("chunk", range(4))
@pytest.mark.parametrize("fault", [Fault(status=503), CUT, LOST, Fault(status=500, stored=True)])
def test_a_resumable_upload_goes_on_where_it_was(
    gcs: GcsServer, monkeypatch: pytest.MonkeyPatch, chunk: int, fault: Fault
) -> None:
    monkeypatch.setattr(storage_gcs, "_CHUNK_BYTES", 4 << 20)
    data = os.urandom(15 << 20)
    gcs.faults = [Fault(**{**fault.__dict__, "method": "PUT", "after": chunk})]
    publish(data, f"{ROOT}/x")
    assert gcs.get("a folder/x") == data
    assert gcs.faulty == 1
    assert len([m for m, _ in gcs.log if m == "PUT"]) == 5, "it began anew"


def test_an_upload_that_did_not_end_is_not_there(
    gcs: GcsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_gcs, "_CHUNK_BYTES", 4 << 20)
    gcs.fail(method="PUT", status=403, after=1)
    with pytest.raises(PermissionError, match="403"):
        publish(os.urandom(9 << 20), f"{ROOT}/x")
    assert gcs.names() == [] and not storage.exists(f"{ROOT}/x")


def test_a_listing_comes_by_pages_sorted_and_without_what_is_no_path(gcs: GcsServer) -> None:
    gcs.page_size = 2
    names = ["b.png", "a/z.png", "a.png", "a-b/c.png", "a/b/c.png", "ä/1.png"]
    odd = [".hidden.png", ".git/x", "a/.DS_Store", "empty/"]
    for name in [*names, *odd]:
        gcs.put(f"a folder/{name}", b"12345")
    gcs.put("a folder beside/x", b"")
    assert list(storage.list_files(ROOT)) == sorted((name, 5) for name in names)
    assert storage.is_folder(f"{ROOT}/a") and not storage.is_file(f"{ROOT}/a")
    assert not storage.exists(f"{ROOT}/a fold")
    assert storage.is_folder("gs://bucket") and not storage.is_file("gs://bucket")
    assert len([*storage.list_files("gs://bucket")]) == len(names) + 1
    storage.delete_tree(f"{ROOT}/a")
    left = gcs.names("a folder/")
    assert "a folder/a.png" in left and not [n for n in left if n.startswith("a folder/a/")]
    storage.delete_tree(ROOT)
    assert gcs.names() == ["a folder beside/x"]


def test_inputs_are_named_as_local_ones_are(gcs: GcsServer, tmp_path: Path) -> None:
    names = [f"d/x-{i:05d}-of-00003.tfrecord" for i in range(3)]
    for name in [*names, "d/notes.txt", "e/y.tfrecord", "e/deep/er/z.tfrecord", "e/[1].png"]:
        gcs.put(name, b"12")

    def found(pattern: str, out: str | None = None) -> tuple[str, list[str]]:
        listing = list_input(pattern, out)
        assert all(size == 2 for _, size in listing.files)
        return listing.root, [name for name, _ in listing.files]

    numbered = ("gs://bucket/d", [name[2:] for name in names])
    assert found("gs://bucket/d") == numbered
    assert list_input("gs://bucket/d/").ignored == ("notes.txt",)
    assert found("gs://bucket/d/x.tfrecord@3") == numbered
    assert found("gs://bucket/d/x-*") == numbered
    assert found("gs://bucket/e/**/*.tfrecord") == (
        "gs://bucket/e",
        ["deep/er/z.tfrecord", "y.tfrecord"],
    )
    assert found("gs://bucket/e/y.tfrecord")[1] == ["y.tfrecord"]
    assert found("gs://bucket/d/x-00001*, gs://bucket/e/y.tfrecord") == (
        "gs://bucket",
        ["d/x-00001-of-00003.tfrecord", "e/y.tfrecord"],
    )
    assert len(found("gs://bucket/*/*.tfrecord", "gs://bucket/d")[1]) == 1
    with pytest.raises(InputError, match="names 4 shards, but shard 0 is missing"):
        found("gs://bucket/d/x.tfrecord@4")
    with pytest.raises(InputError, match="there is no such file or folder"):
        found("gs://bucket/none")
    (tmp_path / "a.png").write_bytes(b"12")
    with pytest.raises(UserError, match="no folder in common"):
        found(f"gs://bucket/d/x-00001*,{tmp_path}/*.png")


def test_a_large_object_is_read_by_parts_and_a_broken_part_again(gcs: GcsServer) -> None:
    data = os.urandom(23_000_001)
    gcs.put("a folder/big", data)
    for fault in (Fault(status=503), CUT, Fault(truncate=True)):
        gcs.faults = [
            Fault(**{**fault.__dict__, "path": "^/download", "after": n}) for n in (0, 1, 3)
        ]
        with storage.open_read(f"{ROOT}/big") as file:
            assert file.read(10) == data[:10]
            assert file.read(5_000_000) == data[10:5_000_010]
            assert file.read() == data[5_000_010:]
            assert file.read(1) == b""
    assert not gcs.faults[-1].times
    gcs.put("a folder/empty", b"")
    with storage.open_read(f"{ROOT}/empty") as file:
        assert file.read() == b""


def test_only_the_beginning_is_fetched_when_only_that_is_wanted(gcs: GcsServer) -> None:
    gcs.put("a folder/big", bytes(50 << 20))
    gcs.log.clear()
    with storage.open_read(f"{ROOT}/big") as file:
        assert file.read(1000) == bytes(1000)
    assert len([path for _, path in gcs.log if path.startswith("/download")]) == 1


def test_an_object_that_is_replaced_while_it_is_read_is_an_error(gcs: GcsServer) -> None:
    gcs.put("a folder/big", bytes(20 << 20))
    with storage.open_read(f"{ROOT}/big") as file:
        file.read(10)
        gcs.put("a folder/big", os.urandom(20 << 20))
        with pytest.raises(OSError, match="replaced or deleted while it was read"):
            file.read()


def test_wrong_bytes_are_found_by_the_checksum(gcs: GcsServer) -> None:
    data = bytes(3 << 20)
    gcs.put("a folder/x", data)
    gcs.storage._store.write_bytes("bucket/a folder/x", bytes(3 << 20)[:-1] + b"!")
    with storage.open_read(f"{ROOT}/x") as file, pytest.raises(OSError, match="crc32c is"):
        file.read()


def test_checksums_come_from_the_service(gcs: GcsServer) -> None:
    gcs.put("a folder/x", b"123456789")
    gcs.log.clear()
    assert storage.file_crc32c(f"{ROOT}/x") == "e3069283"
    assert storage.size_bytes(f"{ROOT}/x") == 9
    assert not [path for _, path in gcs.log if path.startswith("/download")]


def test_what_is_not_there(gcs: GcsServer) -> None:
    for read in (storage.read_bytes, storage.size_bytes, storage.open_read, storage.file_crc32c):
        with pytest.raises(FileNotFoundError) as caught:
            read(f"{ROOT}/none")
        assert caught.value.filename == f"{ROOT}/none" and caught.value.strerror
    storage.delete(f"{ROOT}/none")
    with pytest.raises(FileNotFoundError, match="bucket does not exist"):
        storage.read_bytes("gs://nobucket/x")
    with pytest.raises(FileNotFoundError, match="bucket does not exist"):
        storage.exists("gs://nobucket/x")


def test_a_delete_whose_answer_was_lost_is_done(gcs: GcsServer) -> None:
    gcs.put("a folder/x", b"")
    gcs.at(0, LOST)
    storage.delete(f"{ROOT}/x")
    assert gcs.names() == []


def test_after_the_deadline_nothing_waits_again_until_the_bucket_answers(
    gcs: GcsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gcs_calls, "DEADLINE_S", 0.3)
    gcs.put("a folder/x", b"data")
    gcs.fail(status=503, times=ALWAYS, message="Backend Error")
    with pytest.raises(TimeoutError, match="503 GET: Backend Error; gave up after") as caught:
        storage.read_bytes(f"{ROOT}/x")
    assert (caught.value.errno, caught.value.filename) == (errno.ETIMEDOUT, f"{ROOT}/x")
    tries = len(gcs.log)
    assert tries > 5
    for _ in range(5):
        with pytest.raises(TimeoutError):
            storage.read_bytes(f"{ROOT}/x")
    assert len(gcs.log) == tries + 5, "each waited for a deadline of its own"
    gcs.faults.clear()
    assert storage.read_bytes(f"{ROOT}/x") == b"data"
    gcs.at(0, Fault(status=503))
    assert storage.read_bytes(f"{ROOT}/x") == b"data"  # patient again


def test_one_object_that_fails_while_others_do_not_has_a_deadline_too(
    gcs: GcsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gcs_calls, "DEADLINE_S", 0.5)
    gcs.put("a folder/x", b"data")
    gcs.put("a folder/y", b"data")
    gcs.fail(status=503, times=ALWAYS, path="folder/x")
    over = threading.Event()

    def others() -> None:
        while not over.is_set():
            storage.read_bytes(f"{ROOT}/y")

    thread = threading.Thread(target=others)
    thread.start()
    with pytest.raises(TimeoutError, match="gave up"):
        storage.read_bytes(f"{ROOT}/x")
    over.set()
    thread.join()


def test_refusals_are_not_tried_again(gcs: GcsServer) -> None:
    for status in (400, 401, 403):
        gcs.log.clear()
        gcs.fail(status=status, message="because")
        with pytest.raises(OSError, match=f"{status} GET: because"):
            storage.read_bytes(f"{ROOT}/x")
        assert len(gcs.log) == 1


def test_no_credentials_are_one_message_and_no_auth_does_without(
    gcs: GcsServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gcs.put("a folder/x", b"data")
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    monkeypatch.setenv("API_ENDPOINT_OVERRIDE", gcs.url)  # the real client's, with credentials
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    with pytest.raises(UserError, match=r"cannot read .*no Google credentials .*--no_auth"):
        storage.check_place(ROOT)
    monkeypatch.setenv(gcs_calls.NO_AUTH, "1")
    storage.check_place(ROOT)
    assert storage.read_bytes(f"{ROOT}/x") == b"data"
    gcs.fail(status=401, message="Anonymous caller does not have storage.objects.list access")
    with pytest.raises(UserError, match=r"anonymous, by --no_auth \(401 GET: Anon"):
        storage.check_place(ROOT)


def test_the_credentials_of_the_environment_are_used(
    gcs: GcsServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    account, file = gcs.service_account(tmp_path)
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    monkeypatch.setenv("API_ENDPOINT_OVERRIDE", gcs.url)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", file)
    gcs.put("a folder/x", b"data")
    assert storage.read_bytes(f"{ROOT}/x") == b"data"
    assert ("POST", "/token") in gcs.log
    gcs.fail(status=403, message="no access", times=ALWAYS)
    with pytest.raises(UserError, match=f"cannot write to .*not allowed for {account}"):
        storage.check_place(ROOT, writes=True)


def test_credentials_that_nobody_answers_for_do_not_stall(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gcs_calls, "_CREDENTIALS_S", 0.05)
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    over = threading.Event()
    monkeypatch.setattr(gcs_calls.google.auth, "default", lambda scopes: over.wait(30))
    gcs_calls._client.cache_clear()
    with pytest.raises(UserError, match="none found in"):
        storage.check_place("gs://bucket/x")
    over.set()


def test_at_most_a_few_parts_are_in_memory(gcs: GcsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    gcs.put("a folder/big", bytes(90 << 20))
    most = 0
    get = gcs_reader.Reader._get

    def note(self: Any, start: int, stop: int) -> bytes:
        nonlocal most
        data = get(self, start, stop)
        most = max(most, sum(8 << 20 for _ in self._parts) + len(self._part))
        return data

    monkeypatch.setattr(gcs_reader.Reader, "_get", note)
    with storage.open_read(f"{ROOT}/big") as file:
        while file.read(1 << 20):
            pass
    assert most <= (gcs_reader._AHEAD + 2) * (8 << 20)


def test_of_many_exchanges_exactly_one_wins(gcs: GcsServer) -> None:
    storage.write(ROOT, "m/a", b"old")
    with ThreadPoolExecutor(6) as pool:
        won = list(pool.map(lambda n: storage.exchange(ROOT, "m/a", b"old", b"%d" % n), range(6)))
    assert sum(won) == 1 and storage.read_bytes(f"{ROOT}/m/a") == b"%d" % won.index(True)
    assert not storage.exchange(ROOT, "m/gone", b"old", b"new")


def test_a_part_of_an_object(gcs: GcsServer) -> None:
    gcs.put("a folder/m", bytes(range(100)))
    gcs.at(0, Fault(status=503))
    assert storage.read_range(f"{ROOT}/m", 10, 5) == bytes(range(10, 15))
    assert storage.read_range(f"{ROOT}/m", 98, 5) == bytes((98, 99))
    with pytest.raises(FileNotFoundError):
        storage.read_range(f"{ROOT}/none", 0, 5)

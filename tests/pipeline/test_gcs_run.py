"""Whole jobs from gs:// to gs://, through the real client, also where the storage is unreliable."""

import random
import re
import shutil
import time
from pathlib import Path
from typing import Any

import faults
import pytest
from gcs_server import ALWAYS, GcsServer
from support import Segment, content, run_apart

from models.loading import import_tensorflow
from pipeline import cli
from transforms import gcs_calls

tf = import_tensorflow()


@pytest.fixture(scope="module")
def few(photos: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder of 12 of the pictures: each is a request or two."""
    folder = tmp_path_factory.mktemp("few") / "few"
    for path in sorted(Path(photos).rglob("*.*"))[::5]:
        (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / path.parent.name)
    return str(folder)


@pytest.fixture
def bucket(gcs: GcsServer, packed: str, few: str, tiny_model: str) -> GcsServer:
    """A bucket with the tiny model and both kinds of input."""
    gcs.upload(tiny_model, "models/tiny")
    gcs.upload(packed, "packed")
    gcs.upload(few, "in/few")
    return gcs


@pytest.fixture(scope="module")
def generator_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Noise float32 [N, 4] -> pictures [N, 6, 5, 3] in -1 to 1."""

    class Network(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32)])
        def make(self, noise: Any) -> dict[str, Any]:
            return {"image": tf.tanh(tf.reshape(tf.tile(noise, [1, 23])[:, :90], [-1, 6, 5, 3]))}

    network, path = Network(), str(tmp_path_factory.mktemp("generators") / "gan")
    tf.saved_model.save(network, path, signatures=network.make)
    return path


def segment_there(source: str, *more: str, out: str = "gs://bucket/out") -> int:
    arguments = ["--input", source, "--output", out, "--model", "gs://bucket/models/tiny"]
    return cli.main(["segment", *arguments, *more])


def assert_same(gcs: GcsServer, tmp_path: Path, usual: Path, prefix: str = "out") -> None:
    """The same masks, records and metrics as a local run, and nothing besides."""
    there = gcs.download(prefix, tmp_path / f"copy of {prefix}")
    assert content(there, places=False) == content(usual, places=False)
    assert not gcs.names(f"{prefix}/_tmp/")
    assert cli.main(["verify", f"gs://bucket/{prefix}"]) == 0


@pytest.mark.parametrize("kind", ["shards", "files"])
def test_segment_with_all_of_it_there(
    bucket: GcsServer, packed: str, few: str, segment: Segment, tmp_path: Path, kind: str
) -> None:
    local, there = {
        "shards": (packed, "gs://bucket/packed/*.tfrecord"),
        "files": (few, "gs://bucket/in/few"),
    }[kind]
    more = ["--confidence_map", "--files_per_shard=6"]
    assert segment(local, tmp_path / "usual", *more) == 0
    bucket.page_size = 7  # lists come by pages
    assert segment_there(there, *more) == 0
    assert_same(bucket, tmp_path, tmp_path / "usual")
    before = {name: bucket.generation(name) for name in bucket.names("out/m")}
    assert segment_there(there, *more) == 0  # nothing is done again
    after = {name: bucket.generation(name) for name in bucket.names("out/m")}
    assert {n: g for n, g in after.items() if n != "out/metrics.json"} == {
        n: g for n, g in before.items() if n != "out/metrics.json"
    }


def test_status_verify_and_inspect(
    bucket: GcsServer, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert segment_there("gs://bucket/packed") == 0
    capsys.readouterr()
    assert cli.main(["status", "gs://bucket/out/"]) == 0
    assert "6 of 6 committed" in capsys.readouterr().out
    bucket.put(bucket.names("out/masks/")[0], b"cut")
    bucket.put("out/notes.txt", b"foreign")
    bucket.delete(bucket.names("out/records/")[1])
    assert cli.main(["verify", "gs://bucket/out"]) == 1
    said = capsys.readouterr().out
    assert "3 bytes, committed were" in said and "notes.txt: foreign" in said
    assert "missing; delete metrics/" in said
    assert (
        cli.main(["inspect", "gs://bucket/models/tiny", "--write_card", "gs://bucket/c.yaml"]) == 0
    )
    said = capsys.readouterr().out
    assert said.startswith("gs://bucket/models/tiny\n") and "/pixelmill-" not in said
    assert bucket.get("c.yaml").startswith(b"# Card of tiny")
    card = "--model_card=gs://bucket/c.yaml"
    assert segment_there("gs://bucket/packed", card, out="gs://bucket/out2") == 0


def test_pack_and_generate(
    bucket: GcsServer, few: str, generator_model: str, tmp_path: Path
) -> None:
    more = ["--images_per_shard=6"]
    arguments = ["pack", "--input", few, "--output", str(tmp_path / "packed"), *more]
    assert cli.main(arguments) == 0
    there = "gs://bucket/in/few"
    assert cli.main(["pack", "--input", there, "--output", "gs://bucket/p", *more]) == 0
    for folder in ("images", "records"):
        for path in (tmp_path / "packed" / folder).rglob("*.*"):
            name = f"p/{path.relative_to(tmp_path / 'packed')}"
            assert bucket.get(name) == path.read_bytes()
    more = ["--images_per_shard=5", "--shuffle=2", "--validation_fraction=0.3"]
    arguments = ["pack", "--input", str(tmp_path / "packed/images"), *more]
    assert cli.main([*arguments, "--output", str(tmp_path / "new")]) == 0
    arguments = ["pack", "--input", "gs://bucket/p/images", *more]
    assert cli.main([*arguments, "--output", "gs://bucket/new"]) == 0
    for path in (tmp_path / "new/images").rglob("*.*"):
        assert bucket.get(f"new/{path.relative_to(tmp_path / 'new')}") == path.read_bytes()
    assert not [name for name in bucket.names() if name.startswith("new/staged")]
    assert cli.main(["verify", "gs://bucket/new"]) == 0
    bucket.upload(generator_model, "models/gan")
    more = ["--count=20", "--output_range=-1,1", "--images_per_shard=8", "--output_format=folder"]
    model = ["generate", "--model", generator_model, "--output", str(tmp_path / "made"), *more]
    assert cli.main(model) == 0
    model = ["generate", "--model", "gs://bucket/models/gan", "--output", "gs://bucket/made", *more]
    assert cli.main(model) == 0
    copy = bucket.download("made", tmp_path / "copy")
    names = [path.relative_to(copy) for path in copy.rglob("images/**/*.png")]
    assert len(names) == 20
    for name in names:
        assert (copy / name).read_bytes() == (tmp_path / "made" / name).read_bytes()


@pytest.mark.parametrize("kind", ["shards", "files"])
def test_an_unreliable_storage_loses_and_doubles_nothing(
    bucket: GcsServer, packed: str, few: str, segment: Segment, tmp_path: Path, kind: str
) -> None:
    local, there = {
        "shards": (packed, "gs://bucket/packed/*.tfrecord"),
        "files": (few, "gs://bucket/in/few"),
    }[kind]
    assert segment(local, tmp_path / "usual", "--files_per_shard=4") == 0
    bucket.chaos(0.05, seed=1)
    assert segment_there(there, "--files_per_shard=4") == 0
    assert bucket.faulty > 3, "it was reliable"
    assert_same(bucket, tmp_path, tmp_path / "usual")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_a_very_unreliable_storage(
    bucket: GcsServer, few: str, segment: Segment, tmp_path: Path, seed: int
) -> None:
    assert segment(few, tmp_path / "usual", "--files_per_shard=4") == 0
    bucket.chaos(0.25, seed)
    there = "gs://bucket/in/few"
    assert segment_there(there, "--files_per_shard=4") == 0
    assert_same(bucket, tmp_path, tmp_path / "usual")


def test_a_storage_that_is_gone_ends_the_run_within_the_deadline(
    bucket: GcsServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gcs_calls, "DEADLINE_S", 3.0)
    uploads: list[float] = []

    def give_out(_number: int, when: str, method: str, _path: str) -> None:
        if (when, method) == ("before", "POST"):
            uploads.append(time.monotonic())
            if len(uploads) == 9:  # in the second shard
                bucket.fail(status=503, times=ALWAYS, message="Backend Error")

    bucket.hook = give_out
    assert segment_there("gs://bucket/packed") == 1
    assert time.monotonic() - uploads[8] < 15, "every shard has waited for the whole deadline"
    said = capsys.readouterr().err
    assert re.search("503 [A-Z]+: Backend Error; gave up after .*gs://bucket/out/", said), said
    bucket.faults.clear()
    bucket.hook = None
    assert len(bucket.names("out/metrics/")) == 1
    assert segment_there("gs://bucket/packed") == 0


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"status": 503, "message": "Backend Error"}, "503 GET: Backend Error; gave up after"),
        (
            {"status": 403, "message": "x does not have storage.objects.list access"},
            "403 GET: x does",
        ),
        ({"status": 401, "message": "Invalid Credentials"}, "401 GET: Invalid Credentials"),
    ],
)
def test_what_cannot_work_is_told_at_the_start(
    bucket: GcsServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    fault: dict[str, object],
    message: str,
) -> None:
    from transforms import storage_gcs

    monkeypatch.setattr(storage_gcs, "_START_S", 2.0)
    bucket.fail(path="/o\\?", times=ALWAYS, **fault)
    begin = time.monotonic()
    assert segment_there("gs://bucket/packed") == 2
    assert time.monotonic() - begin < 10
    said = capsys.readouterr().err
    assert re.search(message, said), said
    assert said.startswith("pixelmill: cannot write to gs://bucket/out: ")


def test_a_wrong_bucket_is_told_at_the_start(
    bucket: GcsServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert segment_there("gs://bukcet/packed") == 2
    assert "cannot read gs://bukcet/packed" in (said := capsys.readouterr().err)
    assert "bucket does not exist" in said
    assert segment_there("gs://bucket/packed", out="gs://bukcet/x") == 2
    assert "cannot write to gs://bukcet/x" in capsys.readouterr().err
    assert segment_there("gs://bucket/nothing/*.png") == 2
    assert "no files match gs://bucket/nothing/*.png" in capsys.readouterr().err
    assert segment_there("gs://bucket/packed", "--model=gs://bucket/models/none") == 2
    assert "gs://bucket/models/none: there is no such folder" in capsys.readouterr().err
    assert segment_there("gs://bucket/packed", "--model=gs://bucket/models") == 2
    assert "gs://bucket/models holds SavedModels in tiny" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_random_kills_of_the_whole_job(
    bucket: GcsServer, packed: str, segment: Segment, tmp_path: Path
) -> None:
    assert segment(packed, tmp_path / "usual") == 0
    model = ["--model", "gs://bucket/models/tiny", "--output", "gs://bucket/out"]
    arguments = ["segment", "--input", "gs://bucket/packed", *model]
    bucket.log.clear()
    faults.start(faults.run_command, arguments, bucket.url).join()
    assert_same(bucket, tmp_path, tmp_path / "usual")
    looks = [number for number, (_, path) in enumerate(bucket.log, 1) if "/o/out/masks/" in path]
    spans = ((looks[0], looks[5]), (1, len(bucket.log)))  # each commit looks for its masks first
    rng, halfway = random.Random(6), 0
    for _ in range(3):
        bucket.delete_all("out/")
        for begin, end in spans:  # the second run is killed as well, and the third goes on
            found = bucket.kill_at(rng.randint(begin, end), "after")
            found.append(faults.start(faults.run_command, arguments, bucket.url))
            found[0].join()
            bucket.hook = None
            halfway += 0 < len(bucket.names("out/metrics/")) < 6
        faults.start(faults.run_command, arguments, bucket.url).join()
        assert_same(bucket, tmp_path, tmp_path / "usual")
    assert halfway > 1, "no kill fell between two commits"


@pytest.mark.slow
def test_worker_processes_have_the_place_the_model_and_no_credentials(
    bucket: GcsServer, packed: str, segment: Segment, tmp_path: Path
) -> None:
    assert segment(packed, tmp_path / "usual") == 0
    arguments = ["--input", "gs://bucket/packed", "--output", "gs://bucket/out", "--no_auth"]
    workers = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    begin = time.monotonic()
    done = run_apart(["segment", *arguments, "--model", "gs://bucket/models/tiny", *workers])
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - begin < 200
    assert_same(bucket, tmp_path, tmp_path / "usual")

"""Reading a SavedModel: names, dtypes, shapes and fingerprint, of whatever lies in the folder."""

import os
import shutil
from pathlib import Path

import pytest

from models.errors import ModelError
from models.loading import import_tensorflow
from models.signatures import TensorInfo, fingerprint, read_model


def offered(info):
    return {signature.name: str(signature) for signature in info.signatures}


def test_what_is_read(saved):
    path = saved("fixed")
    info = read_model(path)
    assert info.path == path
    assert info.tags == ("serve",)
    assert info.tensorflow_version == import_tensorflow().__version__
    files = [file for file in Path(path).rglob("*") if file.is_file()]
    assert info.size_bytes == sum(file.stat().st_size for file in files)
    assert info.fingerprint == fingerprint(path)
    (signature,) = info.signatures
    assert signature.name == "serving_default"
    assert signature.inputs == (TensorInfo("image", "float32", (None, 32, 48, 3)),)
    assert signature.outputs == (TensorInfo("out", "float32", (None, 32, 48, 3)),)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("logits", "(image: float32[N,N,N,3]) -> out: float32[N,N,N,3]"),
        ("batch4", "(image: float32[4,32,48,3]) -> out: float32[4,32,48,3]"),
        ("uint8", "(image: uint8[N,N,N,3]) -> out: float32[N,N,N,3]"),
        ("nchw", "(image: float32[N,3,32,48]) -> out: float32[N,3,32,48]"),
        ("int32", "(image: float32[N,N,N,3]) -> out: int32[N,N,N]"),
        ("int64", "(image: float32[N,N,N,3]) -> out: int64[N,N,N,1]"),
        ("scalar", "(image: float32[N,N,N,3]) -> out: float32[]"),
        ("unknown_rank", "(x: float32[?]) -> out: float32[?]"),
        ("bytes", "(image_bytes: string[N]) -> out: float32[N,N,N,3]"),
        ("two_inputs", "(image: float32[N,N,N,3], label: float32[N]) -> out: float32[N,N,N,3]"),
        (
            "ids_and_scores",
            "(image: float32[N,N,N,3]) -> ids: int32[N,N,N], probabilities: float32[N,N,N,3]",
        ),
    ],
)
def test_signatures_read_as_they_were_exported(saved, name, expected):
    assert offered(read_model(saved(name))) == {"serving_default": "serving_default" + expected}


def test_keras_3_offers_two_names(saved):
    text = "(image: float32[N,N,N,3]) -> output_0: float32[N,N,N,3]"
    names = ("serve", "serving_default")
    assert offered(read_model(saved("keras3"))) == {name: name + text for name in names}


def test_signatures_are_sorted(saved):
    names = [signature.name for signature in read_model(saved("several_with_default")).signatures]
    assert names == ["a", "serving_default", "z"]


def test_a_model_without_signatures(saved):
    info = read_model(saved("no_signature"))
    assert info.signatures == ()
    assert info.offers() == "  no signatures"


def test_nothing_is_executed(saved, monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError("read_model must not load the graph")

    tf = import_tensorflow()
    monkeypatch.setattr(tf.saved_model, "load", forbidden)
    monkeypatch.setattr(tf.compat.v1.saved_model, "load", forbidden)
    monkeypatch.setattr(tf.graph_util, "import_graph_def", forbidden)
    assert read_model(saved("logits")).signatures


def test_variables_are_not_needed(saved, tmp_path):
    """The graph alone tells the signatures; a model without its weights fails on loading."""
    path = shutil.copytree(saved("logits"), tmp_path / "m")
    shutil.rmtree(path / "variables")
    assert offered(read_model(str(path))) == offered(read_model(saved("logits")))


# The fingerprint


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved("logits"), tmp_path / "copy")


def test_the_fingerprint_is_of_the_contents_not_the_place(saved, copy, tmp_path):
    original = fingerprint(saved("logits"))
    assert len(original) == 64
    assert fingerprint(str(copy)) == original
    assert fingerprint(str(copy) + "/") == original
    assert fingerprint(os.path.relpath(copy)) == original
    moved = shutil.move(copy, tmp_path / "z z")
    os.utime(Path(moved) / "saved_model.pb", (0, 0))
    assert fingerprint(str(moved)) == original


def test_the_fingerprint_changes_with_a_byte(saved, copy):
    weights = copy / "variables" / "variables.data-00000-of-00001"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    assert fingerprint(str(copy)) != fingerprint(saved("logits"))
    assert read_model(str(copy)).fingerprint == fingerprint(str(copy))


@pytest.mark.parametrize("name", ["index", "variables.indez"])  # sorted elsewhere, or as before
def test_the_fingerprint_changes_with_a_name(saved, copy, name):
    (copy / "variables" / "variables.index").rename(copy / "variables" / name)
    assert fingerprint(str(copy)) != fingerprint(saved("logits"))


def test_the_fingerprint_changes_with_a_place_inside(saved, copy):
    (copy / "variables" / "variables.index").rename(copy / "variables.index")
    assert fingerprint(str(copy)) != fingerprint(saved("logits"))


def test_the_fingerprint_changes_with_an_asset_more(saved, copy):
    (copy / "assets" / "names.txt").parent.mkdir(exist_ok=True)
    (copy / "assets" / "names.txt").write_text("")
    assert fingerprint(str(copy)) != fingerprint(saved("logits"))


def test_the_fingerprint_changes_when_contents_swap_places(tmp_path):
    for folder, contents in (("x", ("1", "2")), ("y", ("2", "1"))):
        (tmp_path / folder).mkdir()
        for name, content in zip("ab", contents, strict=True):
            (tmp_path / folder / name).write_text(content)
    assert fingerprint(str(tmp_path / "x")) != fingerprint(str(tmp_path / "y"))


# What is no SavedModel


def test_a_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="none: there is no such folder, expected one"):
        read_model(str(tmp_path / "none"))


def test_a_file_in_place_of_a_folder(tmp_path):
    (tmp_path / "model.h5").write_bytes(b"x")
    with pytest.raises(FileNotFoundError, match="there is no such folder"):
        read_model(str(tmp_path / "model.h5"))


def test_a_folder_of_something_else(tmp_path):
    (tmp_path / "model.keras").write_bytes(b"x")
    with pytest.raises(FileNotFoundError, match=r"no saved_model\.pb in it.*model\.export"):
        read_model(str(tmp_path))


def test_a_folder_of_models_that_are_no_versions(saved, tmp_path):
    for name in ("large", "small"):
        shutil.copytree(saved("logits"), tmp_path / name)
    (tmp_path / "other").mkdir()
    with pytest.raises(FileNotFoundError) as caught:
        read_model(str(tmp_path))
    assert str(caught.value) == (
        f"{tmp_path} holds SavedModels in large, small; name one: {tmp_path}/small"
    )


@pytest.mark.parametrize("content", [b"", b"\n", b"\x0a\x00", b"\x08\x01"])
def test_a_graph_that_is_empty(tmp_path, content):
    (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(ValueError, match=r"saved_model\.pb"):
        read_model(str(tmp_path))


@pytest.mark.parametrize("content", [b"<html>not found</html>", b"\xff" * 100, b"version https://"])
def test_a_graph_that_is_something_else(tmp_path, content):
    (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(ValueError, match=r"saved_model\.pb"):
        read_model(str(tmp_path))


def test_a_graph_that_was_cut_anywhere(saved, tmp_path):
    whole = Path(saved("two_inputs"), "saved_model.pb").read_bytes()
    refused = 0
    for length in range(0, len(whole), max(1, len(whole) // 150)):
        (tmp_path / "saved_model.pb").write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"saved_model\.pb"):
            read_model(str(tmp_path))
        refused += 1
    assert refused >= 150


def test_a_graph_with_damaged_bytes(saved, tmp_path):
    """Flips bits all over the file: it is read, or refused by ValueError, and nothing else."""
    whole = Path(saved("two_inputs"), "saved_model.pb").read_bytes()
    tail = len(whole) - 3000  # signatures are written near the end
    places = [*range(0, tail, 199), *range(max(0, tail), len(whole), 7)]
    outcomes = {"read": 0, "refused": 0}
    for place in places:
        for bit in (0x01, 0x80):
            damaged = bytearray(whole)
            damaged[place] ^= bit
            (tmp_path / "saved_model.pb").write_bytes(damaged)
            try:
                read_model(str(tmp_path))
                outcomes["read"] += 1
            except ValueError:
                outcomes["refused"] += 1
    assert min(outcomes.values()) > 0


@pytest.mark.parametrize("dtype", [0, 9999])
def test_a_dtype_that_this_tensorflow_does_not_know_is_no_dead_end(tmp_path, dtype):
    """Composite tensors have none; the other signatures of the model can still be used."""
    import_tensorflow()
    from tensorflow.core.protobuf import saved_model_pb2

    proto = saved_model_pb2.SavedModel()
    signatures = proto.meta_graphs.add().signature_def
    signatures["odd"].inputs["x"].dtype = dtype
    signatures["plain"].inputs["x"].dtype = 1
    (tmp_path / "saved_model.pb").write_bytes(proto.SerializeToString())
    odd, plain = read_model(str(tmp_path)).signatures
    assert str(odd) == "odd(x: unknown[]) -> "
    assert str(plain) == "plain(x: float32[]) -> "


# Models of strangers

STRANGERS = {
    "deeplab_portrait_tf1": {
        "serving_default(ImageTensor: uint8[1,N,N,3]) -> SemanticPredictions: int32[1,N,N], "
        "SemanticProbabilities: float32[1,N,N,2]"
    },
    "deeplab_nchw_tf1": {
        "serving_default(input: float32[1,513,513,3]) -> logits: float32[1,2,513,513]"
    },
    "fsrcnn_x2_tf1": {"serving_default(x: float32[?]) -> NCHW_output: float32[N,1,N,N]"},
    "fast_srgan_96": {
        "serving_default(input_3: float32[N,96,96,3]) -> conv2d_13: float32[N,384,384,3]"
    },
    "tfx_keras_tfexample": {"serving_default(examples: string[N]) -> output_0: float32[N,3]"},
    "tf_serving_testdata/matrix_half_plus_two/1": {
        "serving_default(x: float32[N,3,3]) -> y: float32[N,3,3]"
    },
}


@pytest.mark.real_data
@pytest.mark.parametrize("name", STRANGERS)
def test_third_party_signatures(real_data, name):
    info = read_model(str(real_data / "saved_models" / name))
    assert STRANGERS[name] <= {str(signature) for signature in info.signatures}


@pytest.mark.real_data
def test_every_third_party_folder_is_read_or_refused_clearly(real_data):
    """All folders below saved_models, of models or not."""
    read, refused = {}, {}
    root = real_data / "saved_models"
    for folder in sorted(path for path in root.rglob("*") if path.is_dir()):
        name = str(folder.relative_to(root))
        try:
            read[name] = read_model(str(folder))
        except (FileNotFoundError, ModelError, ValueError) as error:
            refused[name] = str(error)
            assert str(folder) in str(error)
            assert "\n" not in str(error)
    folders = {file.parent.relative_to(root) for file in root.rglob("saved_model.pb")}
    bases = {folder.parent for folder in folders if folder.name.isdecimal()}
    assert set(read) == {str(folder) for folder in folders | bases}
    assert all(info.signatures for info in read.values())
    serving = "tf_serving_testdata"
    two = f"{serving}/saved_model_half_plus_two_2_versions"
    assert read[two].versions == ("00000123", "00000124")
    assert read[two].path.endswith(f"{two}/00000124")
    bad = f"{serving}/bad_half_plus_two/00000123"
    assert "is not a SavedModel: there is no saved_model.pb in it" in refused[bad]


@pytest.mark.real_data
def test_tags_and_versions_of_third_party_models(real_data):
    info = read_model(str(real_data / "saved_models" / "tfx_taxi_eval_tag_only"))
    assert info.tags == ("eval",)
    path = real_data / "saved_models" / "tf_serving_testdata" / "matrix_half_plus_two" / "1"
    assert read_model(str(path)).tensorflow_version.startswith("1.")

"""Reading what a SavedModel offers without loading or running it."""

import dataclasses
import hashlib
import os
from collections.abc import Iterator

from models.loading import import_tensorflow

Shape = tuple[int | None, ...] | None  # None: even the rank is unknown


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """One input or output of a signature; dtype as TensorFlow names it, "float32", or "unknown"."""

    name: str
    dtype: str
    shape: Shape

    def __str__(self) -> str:
        dims = "?" if self.shape is None else ",".join(_dim(d) for d in self.shape)
        return f"{self.name}: {self.dtype}[{dims}]"


@dataclasses.dataclass(frozen=True)
class SignatureInfo:
    """A signature; inputs and outputs sorted by name, for their stored order is random."""

    name: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]

    def __str__(self) -> str:
        ins, outs = (", ".join(map(str, side)) for side in (self.inputs, self.outputs))
        return f"{self.name}({ins}) -> {outs}"


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """A SavedModel on disk.

    Attributes:
        path: its folder.
        tags: of its first graph.
        signatures: sorted by name; empty for a model that was saved without any.
        tensorflow_version: that wrote it, "" if not said.
        size_bytes: of all its files.
        fingerprint: sha256 over the names and contents of all its files.
    """

    path: str
    tags: tuple[str, ...]
    signatures: tuple[SignatureInfo, ...]
    tensorflow_version: str
    size_bytes: int
    fingerprint: str

    def offers(self) -> str:
        """The signatures, one a line, for error messages."""
        return "\n".join(f"  {signature}" for signature in self.signatures) or "  no signatures"


def read_model(path: str) -> ModelInfo:
    """Reads signatures, sizes and fingerprint of a SavedModel folder. Nothing is executed.

    Raises:
        FileNotFoundError: no such folder, or no saved_model.pb in it.
        ValueError: the saved_model.pb cannot be parsed.
    """
    import_tensorflow()  # takes seconds: only those pay who read models
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    file = os.path.join(path, "saved_model.pb")
    if not os.path.isfile(file):
        raise FileNotFoundError(_what_is_missing(path))
    proto = saved_model_pb2.SavedModel()
    try:
        with open(file, "rb") as stream:
            proto.ParseFromString(stream.read())
    except DecodeError as error:
        raise ValueError(f"{file} is damaged: {error}") from error
    if not proto.meta_graphs:
        raise ValueError(f"{file} holds no graph: it is empty or damaged; export the model again")
    graph = proto.meta_graphs[0]
    signatures = (
        SignatureInfo(name, _tensors(definition.inputs), _tensors(definition.outputs))
        for name, definition in graph.signature_def.items()
        if not name.startswith("__")
    )
    return ModelInfo(
        path=path,
        tags=tuple(sorted(graph.meta_info_def.tags)),
        signatures=tuple(sorted(signatures, key=lambda s: s.name)),
        tensorflow_version=graph.meta_info_def.tensorflow_version,
        size_bytes=sum(os.path.getsize(file) for _, file in _files(path)),
        fingerprint=fingerprint(path),
    )


def fingerprint(path: str) -> str:
    """sha256, in hexadecimal, over relative names and contents of all files below a folder."""
    digest = hashlib.sha256()
    for name, file in _files(path):
        with open(file, "rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(f"{name}\0{content}\n".encode())
    return digest.hexdigest()


def _files(path: str) -> Iterator[tuple[str, str]]:
    found = [os.path.join(base, name) for base, _, names in os.walk(path) for name in names]
    yield from sorted((os.path.relpath(file, path), file) for file in found)


def _tensors(infos) -> tuple[TensorInfo, ...]:  # type: ignore[no-untyped-def]  # a proto map
    return tuple(
        TensorInfo(
            name=name,
            dtype=_dtype_name(infos[name].dtype),
            shape=None
            if infos[name].tensor_shape.unknown_rank
            else tuple(None if d.size < 0 else d.size for d in infos[name].tensor_shape.dim),
        )
        for name in sorted(infos)
    )


def _dtype_name(number: int) -> str:
    from tensorflow.dtypes import as_dtype

    try:
        return str(as_dtype(number).name)
    except TypeError:  # of a newer TensorFlow, or unset: ragged and other composite tensors
        return "unknown"


def _dim(size: int | None) -> str:
    return "N" if size is None else str(size)


def _what_is_missing(path: str) -> str:
    if not os.path.isdir(path):
        return f"{path}: there is no such folder; --model names the folder of a SavedModel"
    versions = [
        name
        for name in sorted(os.listdir(path))
        if os.path.isfile(os.path.join(path, name, "saved_model.pb"))
    ]
    if versions:
        return f"{path} holds SavedModels in {', '.join(versions)}; name one: {path}/{versions[-1]}"
    return (
        f"{path} is not a SavedModel: there is no saved_model.pb in it. "
        "A .keras or .h5 file is exported to one by model.export(folder)"
    )

"""Reading what a SavedModel offers without loading or running it."""

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from models.callables import Call, functions
from models.loading import read_proto

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
    """A signature; inputs and outputs sorted by name, for their stored order is random.

    Of a model without any, a function of the loaded object stands in for it: `call` says how, and
    `positional` names the inputs that it takes by position, in order, and `trailing` holds what
    follows them.
    """

    name: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    call: Call = "signature"
    positional: tuple[str, ...] = ()
    trailing: tuple[object, ...] = ()

    def __str__(self) -> str:
        ins, outs = (", ".join(map(str, side)) for side in (self.inputs, self.outputs))
        return f"{self.name}({ins}) -> {outs}"


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """A SavedModel on disk.

    Attributes:
        path: its folder; of a folder of versions, the newest.
        tags: of its graph.
        signatures: sorted by name. Of a model that was saved without any, its functions.
        tensorflow_version: that wrote it, "" if not said.
        size_bytes: of all its files.
        fingerprint: sha256 over the names and contents of all its files.
        tag_sets: the tags of all its graphs.
        versions: names of the folders, oldest first, when the path held versions.
        origin: what wrote it: Keras 2, Keras 3, TF1, or "" if it cannot be told.
    """

    path: str
    tags: tuple[str, ...]
    signatures: tuple[SignatureInfo, ...]
    tensorflow_version: str
    size_bytes: int
    fingerprint: str
    tag_sets: tuple[tuple[str, ...], ...] = ()
    versions: tuple[str, ...] = ()
    origin: str = ""

    def offers(self) -> str:
        """The signatures, one a line, for error messages."""
        return "\n".join(f"  {signature}" for signature in self.signatures) or "  no signatures"


def read_model(path: str, tags: Sequence[str] | None = None) -> ModelInfo:
    """Reads signatures, sizes and fingerprint of a SavedModel folder. Nothing is executed.

    Args:
        path: the folder, or one of numbered versions, of which the newest is read.
        tags: of the graph; None for the only one, or the one that is tagged "serve".

    Raises:
        FileNotFoundError: no such folder, or no saved_model.pb in it.
        ValueError: the saved_model.pb cannot be parsed, or no graph has these tags.
    """
    versions = _versions(path)
    path = newest_version(path)
    file = os.path.join(path, "saved_model.pb")
    if not os.path.isfile(file):
        raise FileNotFoundError(_what_is_missing(path))
    proto = read_proto(file)
    graph = _pick_graph(file, proto, tags)
    signatures = [
        SignatureInfo(name, _tensors(definition.inputs), _tensors(definition.outputs))
        for name, definition in graph.signature_def.items()
        if not name.startswith("__")
    ] or [
        SignatureInfo(
            name,
            _specs(trace.inputs),
            _specs(trace.outputs),
            trace.call,
            trace.positional,
            trace.trailing,
        )
        for name, trace in functions(graph).items()
    ]
    return ModelInfo(
        path=path,
        tags=_tags(graph),
        signatures=tuple(sorted(signatures, key=lambda s: s.name)),
        tensorflow_version=graph.meta_info_def.tensorflow_version,
        size_bytes=sum(os.path.getsize(file) for _, file in _files(path)),
        fingerprint=fingerprint(path),
        tag_sets=tuple(map(_tags, proto.meta_graphs)),
        versions=versions,
        origin=_origin(graph),
    )


def _pick_graph(file: str, proto: Any, tags: Sequence[str] | None) -> Any:
    graphs = list(proto.meta_graphs)
    if tags:
        fits = [graph for graph in graphs if set(_tags(graph)) == set(tags)]
    else:
        fits = graphs if len(graphs) == 1 else [g for g in graphs if _tags(g) == ("serve",)]
    if len(fits) == 1:
        return fits[0]
    offered = "; ".join(",".join(_tags(graph)) or "(no tag)" for graph in graphs)
    found = f"no graph with the tags {','.join(tags)}" if tags else f"{len(graphs)} graphs"
    raise ValueError(f"{file} has {found}; choose one by --tags. It offers: {offered}")


def _tags(graph: Any) -> tuple[str, ...]:
    return tuple(sorted(graph.meta_info_def.tags))


def _origin(graph: Any) -> str:
    """Keras or TF1, told by the objects that were saved along."""
    nodes = graph.object_graph_def.nodes
    if not nodes:
        return "TF1"
    names = {child.local_name for child in nodes[0].children}
    if nodes[0].user_object.identifier.startswith("_tf_keras"):
        return "Keras 2"
    if {"_misc_assets", "_all_variables"} <= names or {"_operations", "_losses"} <= names:
        return "Keras 3"
    return ""


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


def _tensors(infos: Any) -> tuple[TensorInfo, ...]:
    return tuple(
        TensorInfo(name, _dtype_name(infos[name].dtype), _shape(infos[name].tensor_shape))
        for name in sorted(infos)
    )


def _specs(specs: Iterable[tuple[str, Any]]) -> tuple[TensorInfo, ...]:
    found = (TensorInfo(name, _dtype_name(spec.dtype), _shape(spec.shape)) for name, spec in specs)
    return tuple(sorted(found, key=lambda tensor: tensor.name))


def _shape(shape: Any) -> Shape:
    return None if shape.unknown_rank else tuple(None if d.size < 0 else d.size for d in shape.dim)


def _dtype_name(number: int) -> str:
    from tensorflow.dtypes import as_dtype

    try:
        return str(as_dtype(number).name)
    except TypeError:  # of a newer TensorFlow, or unset: ragged and other composite tensors
        return "unknown"


def _dim(size: int | None) -> str:
    return "N" if size is None else str(size)


def newest_version(path: str) -> str:
    """The folder of the model itself: the newest of numbered versions, or the path as it is."""
    versions = _versions(path)
    return os.path.join(path, versions[-1]) if versions else path


def _versions(path: str) -> tuple[str, ...]:
    """Numbered folders of SavedModels, as TensorFlow Serving wants them, oldest first."""
    if os.path.isfile(os.path.join(path, "saved_model.pb")) or not os.path.isdir(path):
        return ()
    names = [name for name in os.listdir(path) if name.isascii() and name.isdecimal()]
    found = [n for n in names if os.path.isfile(os.path.join(path, n, "saved_model.pb"))]
    return tuple(sorted(found, key=lambda name: (int(name), name)))


def _what_is_missing(path: str) -> str:
    if not os.path.isdir(path):
        return f"{path}: there is no such folder, expected one with a saved_model.pb"
    below = [
        name
        for name in sorted(os.listdir(path))
        if os.path.isfile(os.path.join(path, name, "saved_model.pb"))
    ]
    if below:
        return f"{path} holds SavedModels in {', '.join(below)}; name one: {path}/{below[-1]}"
    return (
        f"{path} is not a SavedModel: there is no saved_model.pb in it. "
        "A .keras or .h5 file is exported to one by model.export(folder)"
    )

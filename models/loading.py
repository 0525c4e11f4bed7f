"""Importing TensorFlow without its chatter, and loading a SavedModel with errors that help."""

import contextlib
import functools
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from models.callables import caller
from models.errors import ModelError

if TYPE_CHECKING:
    from models.binding import Binding

# Lines of TensorFlow's errors that say where, not why.
_NOT_TELLING = ("[[{", "[Op:", "File ", "^", "Encountered while", "Original stack trace", "[[node")
# Of the process's file descriptor 2, and of importing: a module that is imported halfway is in
# sys.modules already.
_QUIET = threading.RLock()


def import_tensorflow() -> ModuleType:
    """Imports TensorFlow, keeping its start-up lines off the screen unless it fails."""
    if not os.environ.get("PIXELMILL_VERBOSE"):
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return _import()


@functools.cache
def _import() -> ModuleType:
    with _QUIET:
        if "tensorflow" in sys.modules:
            return sys.modules["tensorflow"]
        with quiet_stderr():
            import tensorflow
        tensorflow.get_logger().setLevel("ERROR")
        return tensorflow  # type: ignore[no-any-return]


class Later:
    """TensorFlow, imported when something of it is first asked for: it takes seconds, which
    commands that only look at files need not wait for."""

    def __getattr__(self, name: str) -> Any:
        value = getattr(import_tensorflow(), name)
        setattr(self, name, value)  # found without coming here from now on
        return value


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Holds back what native code writes to file descriptor 2; shows it if the block fails.

    One thread at a time: of two, the later would put back what the earlier had put there.
    """
    if os.environ.get("PIXELMILL_VERBOSE"):
        yield
        return
    with _QUIET:
        yield from _held_back()


def _held_back() -> Iterator[None]:
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        except BaseException:  # shown and raised again, whatever it was
            held.seek(0)
            os.write(saved, held.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def read_proto(file: str) -> Any:
    """Parses a saved_model.pb. Raises ValueError when it is damaged."""
    import_tensorflow()  # takes seconds: only those pay who read models
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    proto = saved_model_pb2.SavedModel()
    try:
        with open(file, "rb") as stream:
            proto.ParseFromString(stream.read())
    except DecodeError as error:
        raise ValueError(f"{file} is damaged: {error}") from error
    if not proto.meta_graphs:
        raise ValueError(f"{file} holds no graph: it is empty or damaged; export the model again")
    return proto


def load_signature(path: str, binding: "Binding") -> Callable[..., Mapping[str, Any]]:
    """Loads a SavedModel and returns the bound signature or function; it takes tensors by name.

    The model itself lives as long as what is returned.

    Raises:
        ModelError: TensorFlow cannot load it, or the signature is not in it.
    """
    tf = import_tensorflow()
    try:
        with quiet_stderr():
            if binding.loader == "v1":
                return _load_in_session(tf, path, binding)
            model = tf.saved_model.load(path, tags=binding.tags)
    except Exception as error:  # the loader raises a dozen kinds for models that it cannot take
        reason = first_line(error)
        if "'add_slot'" in reason:
            reason += ". Keras 2 saved it with an optimizer, which takes: pip install tf_keras"
        raise ModelError(f"TensorFlow {tf.__version__} cannot load {path}: {reason}") from error
    if binding.call != "signature":
        try:
            found = caller(model, binding.signature, binding.positional, binding.trailing)
            return _compiled(tf, found) if binding.xla else found
        except AttributeError as error:
            raise ModelError(f"{path}: function {binding.signature!r} was lost") from error
    if binding.signature not in model.signatures:
        raise ModelError(f"{path}: signature {binding.signature!r} was lost on loading")
    function = model.signatures[binding.signature]
    function._pixelmill_model = model  # a signature holds its variables only weakly
    return _compiled(tf, function) if binding.xla else function


def _compiled(tf: Any, function: Any) -> Callable[..., Mapping[str, Any]]:
    """The function compiled by XLA; or as it is, with a message, where XLA cannot."""
    fast = tf.function(lambda tensors: function(**tensors), jit_compile=True, autograph=False)
    state: dict[str, bool] = {}

    def call(**tensors: Any) -> Mapping[str, Any]:
        if state.get("works") is False:
            return function(**tensors)  # type: ignore[no-any-return]
        try:
            answer = fast(tensors)
            state["works"] = True
            return answer  # type: ignore[no-any-return]
        except Exception as error:
            if state.get("works"):
                raise
            state["works"] = False
            print(f"pixelmill: --xla has no effect: {first_line(error)}", file=sys.stderr)
            return function(**tensors)  # type: ignore[no-any-return]

    return call


def is_tf1(path: str) -> bool:
    """Whether a SavedModel holds no objects but a graph for a session, as TensorFlow 1 wrote."""
    try:
        graphs = read_proto(os.path.join(path, "saved_model.pb")).meta_graphs
    except (OSError, ValueError):
        return False
    return not any(graph.object_graph_def.nodes for graph in graphs)


def _load_in_session(tf: Any, path: str, binding: "Binding") -> Callable[..., Mapping[str, Any]]:
    """A signature of a TF1 model, run in a session as TensorFlow 1 did. Raises what it likes."""
    tags = binding.tags
    if tags is None:
        graphs = read_proto(os.path.join(path, "saved_model.pb")).meta_graphs
        tags = tuple(graphs[0].meta_info_def.tags)
    session = tf.compat.v1.Session(graph=tf.Graph())
    with session.graph.as_default():
        loaded = tf.compat.v1.saved_model.load(session, tags, path)
    signature = loaded.signature_def[binding.signature]
    wanted = {binding.output_name, binding.features_name} - {""}
    outputs = {name: signature.outputs[name].name for name in sorted(wanted)}
    inputs = {name: info.name for name, info in signature.inputs.items()}

    def run(**tensors: Any) -> Mapping[str, Any]:
        feed = {inputs[name]: tensor.numpy() for name, tensor in tensors.items()}
        found = session.run(outputs, feed)
        return {name: tf.constant(array) for name, array in found.items()}

    return run


def first_line(error: BaseException) -> str:
    """The first telling line of an error; TensorFlow's begin with a heading and a call stack."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    for line in reversed(lines):
        if line.startswith(_NOT_TELLING) or "Traceback" in line or len(line) < 2:
            continue
        return f"{type(error).__name__}: {line[:300]}"
    return type(error).__name__

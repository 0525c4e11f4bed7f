"""Importing TensorFlow without its chatter, and loading a SavedModel with errors that help."""

import contextlib
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from models.errors import ModelError

if TYPE_CHECKING:
    from models.binding import Binding


def import_tensorflow() -> ModuleType:
    """Imports TensorFlow, keeping its start-up lines off the screen unless it fails."""
    if not os.environ.get("PIXELMILL_VERBOSE"):
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "tensorflow" in sys.modules:
        return sys.modules["tensorflow"]
    with quiet_stderr():
        import tensorflow
    tensorflow.get_logger().setLevel("ERROR")
    return tensorflow  # type: ignore[no-any-return]


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Holds back what native code writes to file descriptor 2; shows it if the block fails."""
    if os.environ.get("PIXELMILL_VERBOSE"):
        yield
        return
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        except BaseException:
            held.seek(0)
            os.write(saved, held.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def load_signature(path: str, binding: "Binding") -> Callable[..., Mapping[str, Any]]:
    """Loads a SavedModel and returns the bound signature; it takes tensors by name.

    The model itself lives as long as the returned function does.

    Raises:
        ModelError: TensorFlow cannot load it, or the signature is not in it.
    """
    tf = import_tensorflow()
    try:
        with quiet_stderr():
            model = tf.saved_model.load(path, tags=binding.tags)
    except Exception as error:  # the loader raises a dozen kinds for models that it cannot take
        reason = first_line(error)
        if "'add_slot'" in reason:
            reason += ". Keras 2 saved it with an optimizer, which takes: pip install tf_keras"
        raise ModelError(f"TensorFlow {tf.__version__} cannot load {path}: {reason}") from error
    if binding.signature not in model.signatures:
        raise ModelError(f"{path}: signature {binding.signature!r} was lost on loading")
    function = model.signatures[binding.signature]
    function._pixelmill_model = model  # a signature holds its variables only weakly
    return function  # type: ignore[no-any-return]


def first_line(error: BaseException) -> str:
    """The first telling line of an error; TensorFlow's begin with a heading and a call stack."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    for line in reversed(lines):
        if line.startswith(("[[{", "[Op:", "File ", "^")) or "Traceback" in line:
            continue
        return f"{type(error).__name__}: {line[:300]}"
    return type(error).__name__

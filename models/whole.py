"""A batch of pictures of one size as one graph, for sizes that go on coming.

On a processor a model is shown a few pictures at once, so that what it answers is still near when
the argmax reads it. Python has a part in each of the three graphs of each of these few; one graph
with a loop over them is called once: a cheap model, 12 classes and batches of 16 pictures of
256x256 take 1.0 ms a picture instead of 1.7, of one core.
"""

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from models.answers import Segmentation, answers
from models.binding import Binding
from models.shapes import Often

Answers = list[Segmentation]


class _Sizes(NamedTuple):
    """Of a batch: its shape, the masks' (height, width), and how many the model is shown."""

    shape: tuple[int, ...]
    mask_hw: tuple[int, int]
    at_once: int


class WholeBatch:
    """Segments all pictures of a batch by one call. Threads may share it."""

    def __init__(
        self,
        tf: Any,
        binding: Binding,
        prepare: Callable[..., Any],
        predict: Callable[[Any], Any],
        finish: Callable[..., Any],
    ) -> None:
        """Of prepare_graph, the model's output for what that gives, and finish_graph."""
        self._tf = tf
        self._binding = binding
        self._prepare = prepare
        self._predict = predict
        self._finish = finish
        self._often = Often()
        self._graphs: dict[_Sizes, Any] = {}
        self._making = threading.Lock()
        self._works = binding.role == "image" and binding.loader != "v1"
        self._works &= not binding.scalar_input

    def __call__(
        self,
        images: npt.NDArray[np.uint8],
        mask_hw: tuple[int, int],
        at_once: int,
        otherwise: Callable[[], Answers],
    ) -> Answers:
        """The answers for uint8 [n, H, W, 3] pictures, n a multiple of `at_once`.

        Args:
            otherwise: gives them while the size has not come often, and where the model cannot be
                called within a graph.

        Raises:
            What `otherwise` does.
        """
        if not self._works:
            return otherwise()
        try:
            graph = self._graph(_Sizes(images.shape, mask_hw, at_once))
            found = graph and answers([graph(self._tf.constant(images))], self._binding)
        except Exception:  # whatever a stranger's graph raises; `otherwise` raises what matters
            found = otherwise()
            self._works = False
        return found or otherwise()

    def _graph(self, sizes: _Sizes) -> Any:
        """The graph of sizes that come often, or None, as while another thread makes it."""
        if (
            sizes not in self._graphs
            and self._often(sizes)
            and self._making.acquire(blocking=False)
        ):
            try:
                graph = self._make(sizes)
                graph(self._tf.zeros(sizes.shape, self._tf.uint8))  # it is compiled now
                self._graphs[sizes] = graph
            finally:
                self._making.release()
        return self._graphs.get(sizes)

    def _make(self, sizes: _Sizes) -> Any:
        tf = self._tf
        n, *picture = sizes.shape
        height, width = picture[:2]
        placed = self._binding.placed((height, width))

        def some(images: Any) -> Any:
            output = self._predict(self._prepare(images, placed))
            return self._finish(output, sizes.mask_hw, placed, (0, sizes.mask_hw[0]), sizes.at_once)

        part = [tf.TensorSpec([sizes.at_once, *picture], tf.uint8)]
        few = tf.function(some, input_signature=part, autograph=False).get_concrete_function()
        types = {name: value.dtype for name, value in few.structured_outputs.items()}

        def whole(images: Any) -> Any:
            parts = tf.reshape(images, [-1, sizes.at_once, *picture])
            found = tf.map_fn(few, parts, fn_output_signature=types, parallel_iterations=1)
            return {
                name: tf.reshape(value, tf.concat([[n], tf.shape(value)[2:]], 0))
                for name, value in found.items()
            }

        spec = [tf.TensorSpec(sizes.shape, tf.uint8)]
        return tf.function(whole, input_signature=spec, autograph=False).get_concrete_function()

"""For Beam's own users: RunInference with any SavedModel that segments.

    pictures | RunInference(KeyedModelHandler(SavedModelHandler.from_card("model", "card.yaml")))

A picture that fails costs itself only: its inference is a Failure, its batch mates keep theirs.
Beam's dead letters would take the whole batch; `raise_failure` makes them single pictures.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from apache_beam.metrics import Metrics
from apache_beam.ml.inference.base import ModelHandler, PredictionResult

from models.answers import Image, Segmentation
from models.binding import Binding
from models.card import load_card, own_card
from models.errors import ModelError
from models.probe import probe
from models.rules import bind
from models.segmenter import Segmenter
from models.signatures import read_model
from transforms.decode import Facts, Picture
from transforms.failures import Failure
from transforms.picture_work import batch_size_for, picture_survivor
from transforms.records import Item, Record
from transforms.segment import check
from transforms.staging import local_model, remote_name
from transforms.streams import Window, batches_by_shape, in_order
from transforms.survive import TIMEOUT_S, Survivor


class SavedModelHandler(ModelHandler[Image, PredictionResult, Survivor[Picture, Segmentation]]):
    """uint8 [H, W, 3] pictures of any sizes -> PredictionResult(example, inference, model_id).

    `inference` is a Segmentation of the picture's own size, or a Failure with stage, reason and
    message; those are counted as pixelmill/failed. `model_id` is the path of the model.
    """

    def __init__(
        self,
        model_path: str,
        binding: Binding,
        *,
        batch_size: int = 8,
        keep_example: bool = True,
        batch_timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Keeps plain data, to be pickled to the workers. Each process loads the model once, for
        TensorFlow's first device: Beam hands it one batch at a time.

        Args:
            model_path: folder of the SavedModel, the same on all workers.
            binding: how to call it, probed; from_card makes it.
            batch_size: pictures in every batch but a bundle's last; Beam's own choice would be 1
                or 2. A signature with a fixed batch decides.
            keep_example: as Beam's handlers do. With False, `example` is None and no pixels travel
                on; then tell results apart by keys.
            batch_timeout_s: for one batch; its pictures then are Failures. 0 to wait for ever.

        Raises:
            ModelError: the binding has not been probed, or batch_size is not positive.
        """
        if binding.kind is None or binding.output_layout is None:
            raise ModelError(f"{model_path}: got a binding that was not probed; use from_card")
        if batch_size < 1:
            raise ModelError(f"batch_size is {batch_size}, expected at least 1")
        self._path = model_path
        self._binding = binding
        self._batch_size = binding.fixed_batch or batch_size
        self._keep_example = keep_example
        self._batch_timeout_s = batch_timeout_s
        super().__init__(min_batch_size=self._batch_size, max_batch_size=self._batch_size)

    @classmethod
    def from_card(
        cls,
        model_path: str,
        card_path: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        *,
        batch_size: int = 8,
        keep_example: bool = True,
        batch_timeout_s: float = TIMEOUT_S,
    ) -> "SavedModelHandler":
        """Binds and probes the model here, before any worker starts.

        Args:
            card_path, overrides: see load_card; often neither is needed. Without a path, the card
                that the model brings along.
            batch_size, keep_example, batch_timeout_s: as above.

        Raises:
            ModelError: the model cannot be run so; the message says what to give.
        """
        staged = local_model(model_path)
        card = load_card(card_path or own_card(staged), dict(overrides or {}))
        try:
            info = read_model(staged, card.tags)
        except (OSError, ValueError) as error:
            raise ModelError(str(error).replace(staged, model_path)) from error
        binding = probe(info.path, bind(info, card))
        return cls(
            remote_name(info.path, staged, model_path),
            binding,
            batch_size=batch_size,
            keep_example=keep_example,
            batch_timeout_s=batch_timeout_s,
        )

    def load_model(self) -> Survivor[Picture, Segmentation]:
        """Raises ModelError when it cannot be loaded."""
        path = local_model(self._path)
        return picture_survivor(
            lambda: Segmenter(path, self._binding, self._batch_size), self._batch_timeout_s
        )

    def run_inference(
        self,
        batch: Sequence[Image],
        model: Survivor[Picture, Segmentation],
        inference_args: None = None,
    ) -> list[PredictionResult]:
        """One result for each picture, in order, whatever the model raises."""
        parts = batches_by_shape(
            map(_item, range(len(batch)), batch),
            shape_of=lambda picture: self._binding.model_size_hw(picture.facts.size_hw),
            batch_size_of=lambda size_hw: batch_size_for(size_hw, self._batch_size),
            size_bytes_of=lambda _: 0,  # all are in memory anyway
            window=Window(items=len(batch), size_bytes=0),
        )
        answers = in_order(model(part) for part in parts)
        return [self._result(*pair) for pair in zip(batch, answers, strict=True)]

    def _result(self, example: Image, item: Item[Any]) -> PredictionResult:
        inference = _checked(item[1])
        if isinstance(inference, Failure):
            Metrics.counter(self.get_metrics_namespace(), "failed").inc()
        return PredictionResult(example if self._keep_example else None, inference, self._path)

    def get_num_bytes(self, batch: Sequence[Image]) -> int:
        return sum(getattr(example, "nbytes", 0) for example in batch)

    def get_metrics_namespace(self) -> str:
        return "pixelmill"

    def validate_inference_args(self, inference_args: Mapping[str, Any] | None) -> None:
        if inference_args:
            raise ModelError(f"got inference_args {inference_args}, expected none: use the card")

    def update_model_path(self, model_path: str | None = None) -> None:
        """Takes another version of the model; it must fit the same binding."""
        self._path = model_path or self._path


def _checked(answer: Segmentation | Failure) -> Segmentation | Failure:
    if isinstance(answer, Failure):
        return answer
    try:
        check(answer)
    except Failure as failure:
        return failure
    return answer


def _item(index: int, example: Any) -> Item[Picture]:
    record = Record(index, key="", source="")
    dtype, shape = getattr(example, "dtype", None), tuple(getattr(example, "shape", ()))
    if dtype != "uint8" or shape[2:] != (3,) or 0 in shape:
        got = type(example).__name__ if dtype is None else f"{dtype} {list(shape)}"
        return record, Failure("model", "model_error", f"got {got}, expected uint8 [H, W, 3]")
    size_hw = (shape[0], shape[1])
    return record, Picture(example, Facts(size_hw, size_hw, "", "", 1, 0.0))


def raise_failure(result: Any) -> Any:
    """For with_postprocess_fn: raises the Failure of a PredictionResult or (key, PredictionResult).

    The job stops, or with_exception_handling() has each such picture in failed_postprocessing.
    """
    prediction = result if isinstance(result, PredictionResult) else result[1]
    if isinstance(prediction.inference, Failure):
        raise prediction.inference
    return result

"""Beam's RunInference with the best handler that one writes by hand, batches of a fixed size.

Beam's own handlers for TensorFlow cannot load a SavedModel under Keras 3 (apache/beam#30616). In
memory, in one process: with worker threads or processes it was slower here.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.ml.inference.base import KeyedModelHandler, ModelHandler, RunInference
from apache_beam.options.pipeline_options import PipelineOptions

from benchmarks.peers import common


class Handler(ModelHandler[Any, Any, Any]):
    def __init__(self, path: str, batch_size: int) -> None:
        super().__init__()
        self._path = path
        self._batch_size = batch_size

    def load_model(self) -> Any:
        return common.mask_function(self._path)

    def run_inference(
        self, batch: Sequence[Any], model: Any, inference_args: Any = None
    ) -> Iterable[Any]:
        return list(model(np.stack(batch)).numpy())

    def batch_elements_kwargs(self) -> dict[str, int]:
        return {"min_batch_size": self._batch_size, "max_batch_size": self._batch_size}


def read(serialized: bytes) -> tuple[bytes, Any]:
    name, data = common.parse(serialized)
    return name, common.decode(data)


def main() -> None:
    job = common.job()
    handler = KeyedModelHandler(Handler(job.model, job.batch_size))
    options = PipelineOptions(["--runner=FnApiRunner"])
    with beam.Pipeline(options=options) as pipeline:
        (
            pipeline
            | beam.Create(job.shards)
            | beam.io.ReadAllFromTFRecord()
            | beam.Map(read)
            | RunInference(handler)
            | beam.MapTuple(lambda name, mask: common.example(name, common.encode(mask)))
            | beam.io.WriteToTFRecord(str(job.out / "masks"), num_shards=len(job.shards))
        )


if __name__ == "__main__":
    main()

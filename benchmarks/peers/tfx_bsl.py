"""tfx-bsl's RunInference, by CreateModelHandler (ri.RunInference drops the batch size), with the
model wrapped to take tf.Examples and to give masks: decoding and argmax are in its graph.
"""

from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference
from apache_beam.options.pipeline_options import PipelineOptions
from tensorflow import make_ndarray
from tfx_bsl.public.beam.run_inference import CreateModelHandler
from tfx_bsl.public.proto import model_spec_pb2

from benchmarks.peers import common


def read(serialized: bytes) -> tuple[bytes, Any]:
    return common.parse(serialized)[0], tf.train.Example.FromString(serialized)


def written(name: bytes, log: Any) -> bytes:
    mask = make_ndarray(log.predict_log.response.outputs["mask"])
    return common.example(name, common.encode(np.squeeze(mask)))


def main() -> None:
    job = common.job()
    spec = model_spec_pb2.InferenceSpecType(
        saved_model_spec=model_spec_pb2.SavedModelSpec(
            model_path=job.model, signature_name=["examples"]
        ),
        batch_parameters=model_spec_pb2.BatchParameters(
            min_batch_size=job.batch_size, max_batch_size=job.batch_size
        ),
    )
    options = PipelineOptions(["--runner=FnApiRunner"])
    with beam.Pipeline(options=options) as pipeline:
        (
            pipeline
            | beam.Create(job.shards)
            | beam.io.ReadAllFromTFRecord()
            | beam.Map(read)
            | RunInference(KeyedModelHandler(CreateModelHandler(spec)))
            | beam.MapTuple(written)
            | beam.io.WriteToTFRecord(str(job.out / "masks"), num_shards=len(job.shards))
        )


if __name__ == "__main__":
    main()

"""TFX reads what is written: tfx-bsl's TFXIO, with Beam."""

from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pytest
import tensorflow as tf
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that

from transforms.examples import example_of
from transforms.formats import tfrecord
from transforms.records import Encoded, Record


def test_tfxio_reads_tfrecords(tmp_path: Path) -> None:
    tfxio = pytest.importorskip("tfx_bsl.public.tfxio")
    with (tmp_path / "a-00000-of-00001.tfrecord").open("wb") as file:
        writer = tfrecord.open_writer(file, str(tmp_path))
        for n in range(5):
            made = tf.train.Example()
            made.features.feature["image/class/label"].int64_list.value.append(n)
            record = Record(n, f"k{n}", "", features=made.SerializeToString())
            writer.write(example_of(record, {"images": Encoded(b"i%d" % n, "png")}))
        writer.finish()

    def check(found: list[pa.RecordBatch]) -> None:
        rows: dict[str, list[Any]] = pa.Table.from_batches(found).to_pydict()
        order = sorted(range(5), key=lambda n: rows["image/class/label"][n])
        assert [rows["image/class/label"][n] for n in order] == [[n] for n in range(5)]
        assert [rows["image/encoded"][n] for n in order] == [[b"i%d" % n] for n in range(5)]
        assert [rows["image/filename"][n] for n in order] == [[b"k%d" % n] for n in range(5)]

    source = tfxio.TFExampleRecord(str(tmp_path / "a-*.tfrecord"), telemetry_descriptors=["test"])
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        assert_that(pipeline | source.BeamSource(), check)

"""A loop in one process: what one writes in an afternoon. TensorFlow has all cores."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import tensorflow as tf

from benchmarks.peers import common


def main() -> None:
    job = common.job()
    masks = common.mask_function(job.model)
    for shard in job.shards:
        records: Iterator[bytes] = tf.data.TFRecordDataset(shard).as_numpy_iterator()
        with tf.io.TFRecordWriter(str(job.out / Path(shard).name)) as file:
            while batch := list(islice(records, job.batch_size)):
                names, encoded = zip(*map(common.parse, batch), strict=True)
                images = np.stack([common.decode(data) for data in encoded])
                for name, mask in zip(names, masks(images).numpy(), strict=True):
                    file.write(common.example(name, common.encode(mask)))


if __name__ == "__main__":
    main()

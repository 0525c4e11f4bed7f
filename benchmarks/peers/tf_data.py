"""tf.data, tuned by hand: everything before the model in its graph and its threads, prefetched;
masks encoded by Pillow in two threads (tf.io.encode_png takes twice as long), one writer a shard.

As https://www.tensorflow.org/guide/data_performance recommends: parallel map and interleave with
AUTOTUNE, prefetch, no order.
"""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import tensorflow as tf

from benchmarks.peers import common

_AHEAD = 8


def main() -> None:
    job = common.job()
    masks = common.mask_function(job.model)
    auto = tf.data.AUTOTUNE

    def parse(serialized: Any) -> Any:
        wanted = {
            "image/encoded": tf.io.FixedLenFeature([], tf.string),
            "image/filename": tf.io.FixedLenFeature([], tf.string),
        }
        found = tf.io.parse_single_example(serialized, wanted)
        return found["image/filename"], tf.io.decode_jpeg(found["image/encoded"], channels=3)

    batches = (
        tf.data.Dataset.from_tensor_slices(job.shards)
        .interleave(tf.data.TFRecordDataset, num_parallel_calls=auto, deterministic=False)
        .map(parse, num_parallel_calls=auto, deterministic=False)
        .batch(job.batch_size)
        .prefetch(auto)
    )
    writers = [
        tf.io.TFRecordWriter(str(job.out / f"masks-{i:05d}.tfrecord"))
        for i in range(len(job.shards))
    ]

    def encoded(names: Any, found: Any) -> list[bytes]:
        pairs = zip(names.numpy(), found.numpy(), strict=True)
        return [common.example(name, common.encode(mask)) for name, mask in pairs]

    waiting: deque[Future[list[bytes]]] = deque()
    number = 0
    with ThreadPoolExecutor(2) as pool:
        for names, images in batches:
            waiting.append(pool.submit(encoded, names, masks(images)))
            while len(waiting) > _AHEAD:
                number = _write(writers, waiting.popleft().result(), number)
        while waiting:
            number = _write(writers, waiting.popleft().result(), number)
    for writer in writers:
        writer.close()


def _write(writers: list[Any], examples: list[bytes], number: int) -> int:
    for data in examples:
        writers[number % len(writers)].write(data)
        number += 1
    return number


if __name__ == "__main__":
    main()

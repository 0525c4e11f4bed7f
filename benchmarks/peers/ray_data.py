"""Ray Data: tasks decode, one actor holds the model, tasks encode and write.

As https://docs.ray.io/en/latest/data/batch_inference.html recommends: a class for map_batches, a
batch size given, one actor (a second would take the cores of the first's TensorFlow).
"""

from typing import Any

import numpy as np
import ray
import ray.data

from benchmarks.peers import common


def decode(row: dict[str, Any]) -> dict[str, Any]:
    return {"name": row["image/filename"], "image": common.decode(row["image/encoded"])}


class Model:
    def __init__(self, path: str) -> None:
        self._masks = common.mask_function(path)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"name": batch["name"], "mask": self._masks(np.stack(batch["image"])).numpy()}


def encode(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "image/filename": row["name"],
        "image/segmentation/class/encoded": common.encode(row["mask"]),
    }


def main() -> None:
    job = common.job()
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    (
        ray.data.read_tfrecords(job.shards)
        .map(decode)
        .map_batches(
            Model, fn_constructor_args=(job.model,), batch_size=job.batch_size, concurrency=1
        )
        .map(encode)
        .write_tfrecords(str(job.out))
    )


if __name__ == "__main__":
    main()

"""What other tools read and write, for test_peers.py; run by a Python that has them.

`peers.py read KIND PATH` prints a JSON line for each record: its key, SHA-256 of the pixels of its
picture and mask, and its label. `peers.py write KIND FOLDER` makes a few records, from pictures.npz
in the folder, and prints the same of them.
"""

import hashlib
import io
import json
import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ["cat", "dog", "owl"]


def digest(picture):
    """Of the pixels of a picture: encoded, an array, or Pillow's."""
    if isinstance(picture, dict):
        picture = picture["bytes"]
    if isinstance(picture, (bytes, bytearray)):
        picture = Image.open(io.BytesIO(picture))
    pixels = np.ascontiguousarray(np.asarray(picture))
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def told(key, image, mask=None, label=None):
    return {
        "key": key,
        "image": digest(image),
        "mask": None if mask is None else digest(mask),
        "label": None if label is None else int(label),
    }


def samples(folder):
    """Key, pixels, mask and label of what is to be written."""
    data = np.load(Path(folder) / "pictures.npz")
    for n in range(len(data["images"])):
        yield f"p{n}", data["images"][n], data["masks"][n], int(data["labels"][n])


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


# ---- webdataset


def read_webdataset(path):
    import webdataset

    for sample in webdataset.WebDataset(path, shardshuffle=False, empty_check=False):
        name = json.loads(sample["features.json"])["image/filename"]
        image = sample.get("jpg") or sample["png"]
        yield told(name, image, sample.get("seg.png"), sample.get("cls"))


def write_webdataset(folder):
    import webdataset

    pattern = f"{folder}/w-%05d.tar"
    with webdataset.ShardWriter(pattern, maxcount=3, mtime=0, verbose=0) as writer:
        for key, image, mask, label in samples(folder):
            sample = {"__key__": f"a/{key}", "png": image, "seg.png": png(mask), "cls": label}
            writer.write(sample | {"json": {"from": key}})
            yield told(f"a/{key}", image, mask, label)


# ---- datasets, of Hugging Face


def load(*arguments, **settings):
    import datasets

    return datasets.load_dataset(*arguments, split="train", **settings)


def read_hf_webdataset(path):
    for row in load("webdataset", data_files={"train": path}):
        name = row["features.json"]["image/filename"]
        yield told(name, row.get("jpg") or row["png"], row.get("seg.png"), row.get("cls"))


def read_hf_parquet(path):
    for row in load("parquet", data_files={"train": path}):
        yield told(row["image/filename"], row["image"], row.get("mask"), row.get("label"))


def read_hf_imagefolder(path):
    for row in load("imagefolder", data_dir=path):
        yield told(row["image/filename"], row["image"], row.get("mask"), row.get("label"))


def write_hf_parquet(folder):
    import datasets

    rows = list(samples(folder))
    columns = {
        "image": [Image.fromarray(image) for _, image, _, _ in rows],
        "mask": [Image.fromarray(mask) for _, _, mask, _ in rows],
        "label": [label for *_, label in rows],
        "name": [key for key, *_ in rows],
    }
    features = datasets.Features(
        image=datasets.Image(),
        mask=datasets.Image(),
        label=datasets.ClassLabel(names=CLASSES),
        name=datasets.Value("string"),
    )
    datasets.Dataset.from_dict(columns, features=features).to_parquet(f"{folder}/h.parquet")
    for key, image, mask, label in rows:
        yield told(key, image, mask, label)


# ---- pandas


def read_pandas(path):
    import pandas

    for _, row in pandas.read_parquet(path).iterrows():
        yield told(row["image/filename"], row["image"], row.get("mask"), row.get("label"))


def write_pandas(folder):
    import pandas

    rows = list(samples(folder))
    table = pandas.DataFrame(
        {
            "image": [png(image) for _, image, _, _ in rows],
            "mask": [png(mask) for _, _, mask, _ in rows],
            "label": [label for *_, label in rows],
        }
    )
    table.to_parquet(f"{folder}/p.parquet", row_group_size=2)
    for key, image, mask, label in rows:
        yield told(key, image, mask, label)


# ---- tensorflow_datasets


def tfds_features(nested):
    import tensorflow_datasets as tfds

    image, mask = tfds.features.Image(), tfds.features.Image(shape=(None, None, 1))
    label = tfds.features.ClassLabel(names=CLASSES)
    if not nested:
        flat = {"image": image, "segmentation_mask": mask, "label": label}
        return tfds.features.FeaturesDict({**flat, "file_name": tfds.features.Text()})
    return tfds.features.FeaturesDict(
        {
            "image": {
                "encoded": image,
                "filename": tfds.features.Text(),
                "class": {"label": label},
                "segmentation": {"class": {"encoded": mask}},
            }
        }
    )


def read_tfds(path):
    """By TFDS's way to load TFRecords of others: a description beside them."""
    import tensorflow_datasets as tfds

    names = sorted(os.listdir(path))
    tfds.folder_dataset.write_metadata(
        data_dir=path,
        features=tfds_features(nested=True),
        split_infos=[
            tfds.core.SplitInfo(
                name="train",
                shard_lengths=[int(n) for n in os.environ["SHARD_LENGTHS"].split(",")],
                num_bytes=sum(os.path.getsize(f"{path}/{name}") for name in names),
                filename_template=tfds.core.ShardedFileTemplate(
                    data_dir=path,
                    template="{SPLIT}-{SHARD_X_OF_Y}.{FILEFORMAT}",
                    dataset_name="packed",
                    split="train",
                    filetype_suffix="tfrecord",
                ),
            )
        ],
        filename_template="{SPLIT}-{SHARD_X_OF_Y}.{FILEFORMAT}",
    )
    builder = tfds.builder_from_directory(path)
    for row in tfds.as_numpy(builder.as_dataset(split="train")):
        image = row["image"]
        mask = image["segmentation"]["class"]["encoded"]
        yield told(image["filename"].decode(), image["encoded"], mask, image["class"]["label"])


def write_tfds(folder):
    import tensorflow_datasets as tfds

    class Few(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=tfds_features(nested=False))

        def _split_generators(self, manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for key, image, mask, label in samples(folder):
                names = {"image": image, "segmentation_mask": mask[..., None]}
                yield key, {**names, "label": CLASSES[label], "file_name": key}

    Few(data_dir=f"{folder}/tfds").download_and_prepare()
    for key, image, mask, label in samples(folder):
        yield told(key, image, mask, label)


if __name__ == "__main__":
    what, kind, place = sys.argv[1:]
    for line in globals()[f"{what}_{kind}"](place):
        print("RECORD" + json.dumps(line))

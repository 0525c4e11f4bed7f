"""What a record and the pictures that were made of it are as a tf.Example."""

from collections.abc import Mapping

from models.loading import Later
from transforms.records import Encoded, Record

tf = Later()

# Names of the features that hold each kind of picture: DeepLab's and TF Object Detection's.
FEATURES = {
    "images": "image",
    "masks": "image/segmentation/class",
    "confidence": "image/segmentation/confidence",
}


def example_of(record: Record, outputs: Mapping[str, Encoded]) -> bytes:
    """A serialized tf.Example: the record's own features, then the pictures.

    A feature of the input whose name a picture needs is kept as "input/<name>", unless it says the
    same.
    """
    example = tf.train.Example.FromString(record.features)
    features = example.features.feature
    for kind, picture in outputs.items():
        values = {"encoded": picture.data, "format": picture.format.encode()}
        for suffix, value in values.items():
            name = f"{FEATURES[kind]}/{suffix}"
            if name in features and list(features[name].bytes_list.value) != [value]:
                kept = f"input/{name}"
                while kept in features:  # the input was made by such a run itself
                    kept = f"input/{kept}"
                features[kept].CopyFrom(features[name])
            features[name].ClearField("kind")
            features[name].bytes_list.value.append(value)
    if "image/filename" not in features:
        features["image/filename"].bytes_list.value.append(record.key.encode("utf-8", "replace"))
    return bytes(example.SerializeToString(deterministic=True))

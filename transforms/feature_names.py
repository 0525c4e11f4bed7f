"""Names of features that tools give to pictures, names, labels and masks in tf.Examples."""

from typing import Any, NamedTuple

from transforms.failures import Failure


class FeatureNames(NamedTuple):
    """Which features of a tf.Example are what.

    Attributes:
        image: the encoded image.
        key: the record's name. Where it is missing or empty, shard and index make one.
        label: its class id.
        mask: its encoded mask of class ids.
    """

    image: str = "image/encoded"
    key: str = "image/filename"
    label: str = "image/class/label"
    mask: str = "image/segmentation/class/encoded"


USUAL = FeatureNames()
SCHEMAS = {
    # research/deeplab/datasets/build_data.py
    "deeplab": USUAL,
    # research/object_detection/dataset_tools/create_coco_tf_record.py; source_id is the name that
    # its evaluation goes by, and unique, which image/filename need not be
    "object_detection": FeatureNames(key="image/source_id"),
    # tensorflow_datasets: names are free, these are the ones that most datasets have
    "tfds": FeatureNames("image", "file_name", "label", "segmentation_mask"),
}


def to_usual(features: Any, names: FeatureNames) -> None:
    """Renames the features of a tf.Example to those that everything else goes by.

    Args:
        features: the map of its features, changed in place.

    Raises:
        Failure: a feature of such a name is there already, and differs.
    """
    for name, usual in zip(names, USUAL, strict=True):
        if name == usual or name not in features:
            continue
        if usual in features and features[usual] != features[name]:
            raise Failure(
                "read",
                "bad_example",
                f"the feature {name!r} would become {usual!r}, which the example has already; "
                f"leave out the flag that names {name!r}",
            )
        features[usual].CopyFrom(features[name])
        del features[name]

"""The features of examples as a typed column, with tfx-bsl as the judge."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from transforms.features import MAX_FEATURE_BYTES, feature_column


def example(features):
    made = tf.train.Example()
    for name, values in features.items():
        feature = made.features.feature[name]
        kinds = {int: feature.int64_list, float: feature.float_list, bytes: feature.bytes_list}
        for value in values:
            kinds[type(value)].value.append(value)
    return made.SerializeToString(deterministic=True)


def test_types_are_kept_and_missing_features_are_null():
    column = feature_column(
        [example({"i": [1, 2], "b": [b"\xff"]}), b"", example({"f": [0.5], "b": [b"x", b""]})]
    )
    assert column.type == pa.struct(
        [
            ("b", pa.large_list(pa.large_binary())),
            ("f", pa.large_list(pa.float32())),
            ("i", pa.large_list(pa.int64())),
        ]
    )
    assert column.to_pylist() == [
        {"b": [b"\xff"], "f": None, "i": [1, 2]},
        {"b": None, "f": None, "i": None},
        {"b": [b"x", b""], "f": [0.5], "i": None},
    ]


def test_no_features_no_column():
    assert feature_column([]) is None
    assert feature_column([b"", b""]) is None
    assert feature_column([example({})]) is None


def test_one_name_of_two_types_makes_no_column():
    assert feature_column([example({"a": [1]}), example({"a": [b"x"]})]) is None


def test_the_order_of_columns_does_not_follow_the_records():
    one, two = example({"z": [1]}), example({"a": [1], "m": [b"x"]})
    assert feature_column([one, two]).type == feature_column([two, one]).type


def test_long_values_stay_out_of_the_table():
    column = feature_column([example({"mask": [bytes(MAX_FEATURE_BYTES + 1)], "id": [b"a"]})])
    assert column.to_pylist() == [{"id": [b"a"]}]
    assert feature_column([example({"mask": [bytes(MAX_FEATURE_BYTES + 1)]})]) is None


def test_a_feature_without_any_value_survives_parquet():
    made = tf.train.Example()
    made.features.feature["void"].SetInParent()
    column = feature_column([made.SerializeToString(), example({"id": [b"a"]})])
    file = io.BytesIO()
    pq.write_table(pa.table({"features": column}), file)
    rows = pq.read_table(file).column("features").to_pylist()
    assert [row["id"] for row in rows] == [None, [b"a"]]

"""The features of tf.Examples as a typed column, by tfx-bsl's Arrow coder."""

from collections.abc import Sequence

import pyarrow as pa

from models.loading import Later

tf = Later()

# Longer values (masks, point clouds) stay in the shards; a table of rows is no place for them.
MAX_FEATURE_BYTES = 4096


def feature_column(examples: Sequence[bytes]) -> pa.Array | None:
    """One struct a row with the features of serialized tf.Examples.

    Args:
        examples: serialized; b"" for a record without features.

    Returns:
        struct<feature name: large_list<int64 | float | large_binary>>, or None when there are no
        features, or when one name holds different types, which a column cannot.
    """
    short = [_short_features(example) for example in examples]
    if not any(short):
        return None
    from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

    try:
        batch = ExamplesToRecordBatchDecoder().DecodeBatch(short)
    except RuntimeError:  # "feature ... had multiple types"
        return None
    order = sorted(range(batch.num_columns), key=lambda i: batch.schema.names[i])
    names = [batch.schema.names[i] for i in order]
    return pa.StructArray.from_arrays([batch.column(i) for i in order], names) if names else None


def _short_features(serialized: bytes) -> bytes:
    if len(serialized) <= MAX_FEATURE_BYTES:
        return serialized
    example = tf.train.Example.FromString(serialized)
    features = example.features.feature
    for name in [n for n, value in features.items() if value.ByteSize() > MAX_FEATURE_BYTES]:
        del features[name]
    return bytes(example.SerializeToString(deterministic=True))

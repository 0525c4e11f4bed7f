"""Formats of shards, behind one interface: a stream of tf.Examples in, a stream of them out."""

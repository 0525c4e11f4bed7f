"""The same work by other means: read TFRecord shards, decode, segment, write PNG masks in shards.

Each is a program, `python -m benchmarks.peers.NAME SHARDS MODEL OUT BATCH`, that does it as the
documentation of its framework recommends; the settings are in the file.
"""

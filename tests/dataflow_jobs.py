"""The jobs that tests launch on Dataflow. A new command is a new line."""

IMAGE = "gcr.io/project/pixelmill:1"
JOBS = {
    "segment": ["--input=gs://bucket/packed", "--model=gs://bucket/models/tiny"],
    "generate": ["--per_class=2", "--model=gs://bucket/models/digits", "--images_per_shard=8"],
}

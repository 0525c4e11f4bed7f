"""The job graph of a run: the same on every engine, and small, for it holds no names of shards."""

import os

import apache_beam as beam

from pipeline import run_files
from pipeline.dataflow import options as launch_options
from pipeline.worker_watch import is_watched
from transforms.beam_shards import MergeReports, ProcessShards, ReadPlan
from transforms.shard_work import Operator


def build(
    root: beam.Pipeline,
    operator: Operator,
    max_failed_fraction: float,
    options: beam.options.pipeline_options.PipelineOptions,
) -> None:
    """Adds the transforms of a run to a pipeline."""
    out = operator.sink.root
    read = ReadPlan(os.path.join(out, run_files.PLAN), is_watched(options))
    process = ProcessShards(operator, hints=launch_options.hints(options))
    _ = (
        root
        | "ReadPlan" >> read  # Shard
        | "ProcessShards" >> process  # ShardReport
        | "MergeReports" >> MergeReports(max_failed_fraction)  # Totals
        | "Finish" >> beam.Map(run_files.finish, out, max_failed_fraction)  # Totals
    )

"""Airflow: `pixelmill augment` every night, on the worker itself or by a Flex Template on Dataflow.

Put this file into Airflow's folder of DAGs, and set these variables of the environment. Both DAGs
may be run again for any day: a run does what is missing, whatever its date. So there is no catchup.

    PIXELMILL_RECIPE     the recipe, a path or gs://bucket/nightly.yaml
    PIXELMILL_PYTHON     the interpreter that has pixelmill; default python3
    PIXELMILL_PROJECT, PIXELMILL_REGION, PIXELMILL_TEMPLATE, PIXELMILL_IMAGE,
    PIXELMILL_TEMP    for Dataflow
"""

import os
from datetime import UTC, datetime, timedelta

from airflow.providers.apache.beam.operators.beam import BeamRunPythonPipelineOperator
from airflow.providers.google.cloud.operators.dataflow import DataflowStartFlexTemplateOperator
from airflow.sdk import DAG

IMAGE = "europe-west4-docker.pkg.dev/project/pixelmill/pixelmill:1"
RECIPE = os.environ.get("PIXELMILL_RECIPE", "gs://bucket/nightly.yaml")
USUAL = {
    "schedule": "10 2 * * *",
    "start_date": datetime(2026, 1, 1, tzinfo=UTC),
    "catchup": False,
    "max_active_runs": 1,
    "default_args": {"retries": 2, "retry_delay": timedelta(minutes=15)},
    "tags": ["pixelmill"],
}

with DAG("pixelmill_augment", **USUAL):
    # python3 -m pipeline.cli augment RECIPE --runner=DirectRunner --keep=7 --date=...
    BeamRunPythonPipelineOperator(
        task_id="augment",
        py_interpreter=os.environ.get("PIXELMILL_PYTHON", "python3"),
        py_options=["-m", "pipeline.cli", "augment"],
        py_file=RECIPE,
        runner="DirectRunner",
        pipeline_options={"keep": "7", "date": "{{ ds }}"},
    )

with DAG("pixelmill_augment_dataflow", **USUAL):
    DataflowStartFlexTemplateOperator(
        task_id="augment",
        project_id=os.environ.get("PIXELMILL_PROJECT", "project"),
        location=os.environ.get("PIXELMILL_REGION", "europe-west4"),
        body={
            "launchParameter": {
                "jobName": "pixelmill-augment-{{ ds_nodash }}",
                "containerSpecGcsPath": os.environ.get(
                    "PIXELMILL_TEMPLATE", "gs://bucket/templates/augment.json"
                ),
                "parameters": {
                    "job": "augment",
                    "recipe": RECIPE,
                    "keep": "7",
                    "date": "{{ ds }}",
                    "sdk_container_image": os.environ.get("PIXELMILL_IMAGE", IMAGE),
                },
                "environment": {
                    "tempLocation": os.environ.get("PIXELMILL_TEMP", "gs://bucket/tmp")
                },
            }
        },
    )

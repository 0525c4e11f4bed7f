"""The networks that are trained here and exported for the pipeline to run."""

"""What is run: the jobs, the command line, the run's files and the report."""

__version__ = "0.1.0"

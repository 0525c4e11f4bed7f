"""Launching on Dataflow: what is known before workers are paid for, and the options that fit."""

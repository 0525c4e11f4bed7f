"""Masks in the forms that other tools open: `pixelmill export`."""

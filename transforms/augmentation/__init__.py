"""Augmentation: new training examples from old ones, by a recipe, drawn once and told in full."""

"""What turns pixels into masks: reading a SavedModel, its card, and binding both. Knows no Beam."""

"""Pictures larger than the model: windows, what is blended where they overlap, rows as they end."""

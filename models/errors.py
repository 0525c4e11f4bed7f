"""The one error of this layer: a model cannot be bound as asked."""


class ModelError(ValueError):
    """The model, its card or a flag does not fit; the message says what to do."""

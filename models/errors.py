"""Errors that a person can mend: their messages are shown without a traceback."""


class UserError(ValueError):
    """What was asked cannot be done. The message says what was got, and what to do."""


class ModelError(UserError):
    """The model, its card or a flag does not fit."""

"""What is said of a model that cannot be served."""


class ModelError(ValueError):
    """A model file cannot be served. The message is for the operator, one to three lines."""


class UnknownChoice(ModelError):
    """A field says one of several things, and not one that our decoder computes."""

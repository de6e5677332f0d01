"""What is said of a model that cannot be served."""


class ModelError(ValueError):
    """A model file cannot be served. The message is for the operator, one to three lines."""

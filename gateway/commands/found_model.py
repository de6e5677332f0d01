"""Where the files of the model lie that a command is to compute with."""

from pathlib import Path
from typing import Any

from backend.settings import EngineSettings
from gateway import hub
from gateway.dummy_model import dummy_directory


def found_model(engine: EngineSettings, **options: Any) -> Path:
    """Find a model, or make one of random weights. options: hub.resolve()'s, for one that is real.

    Raises ModelNotFound and ModelError.
    """
    if engine.load_format == "dummy":
        return dummy_directory(engine.model)
    return hub.resolve(engine.model, **options)

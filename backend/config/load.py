"""What a path holds: reads the configuration of a model, whichever format it is in.

Knows no torch and reads no weights. Called by the supervisor, before anything is spawned, by every
worker and by every rank.
"""

from pathlib import Path

from backend.config.errors import ModelError
from backend.config.foreign import ModelImpl
from backend.config.model_config import ModelConfig
from backend.config.pooling import Task


def load_config(path: Path, model_impl: ModelImpl = "auto", task: Task = "auto") -> ModelConfig:
    """Read the configuration of a GGUF file or a Hugging Face directory.

    Checks the whole front of every weight file too (bounds, types), so that a truncated or
    unsupported one is found before any process is spawned. model_impl: whose code is to serve it.
    task: what it is to be served for; "auto": what its files say. Raises ModelError.
    """
    # Each format is imported on use; a process needs one.
    try:
        if path.is_dir():
            from backend.config import huggingface

            return huggingface.read_config(path, model_impl, task)
        if path.is_file():
            from backend.config import gguf

            if model_impl == "transformers":
                raise ModelError(
                    f"{path}: --model-impl transformers serves directories, not GGUF files\n"
                    "leave it out, or give the directory that the file was made of"
                )
            return gguf.read_config(path, task)
    except OSError as exc:
        raise ModelError(f"{path}: cannot be read: {exc.strerror or exc}") from None
    if path.exists():
        raise ModelError(
            f"{path}: neither a file nor a directory\n"
            "give a .gguf file, or the directory that holds config.json and *.safetensors"
        )
    raise ModelError(f"{path}: no such file or directory")

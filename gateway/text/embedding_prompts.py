"""What an embedding model wants in front of a text, by what the text is for.

Reads config_sentence_transformers.json. Knows no requests.
"""

from pathlib import Path

import msgspec

from backend.config.hf_directory import read_json


class EmbeddingPrompts(msgspec.Struct, frozen=True):
    """prompts: name -> text. default_prompt_name: of the one that is used where none is named."""

    prompts: dict[str, str | None] = {}
    default_prompt_name: str | None = None

    def text(self, name: str | None) -> str:
        """Return the prompt of that name, or the default. Raises KeyError for an unknown name."""
        name = self.default_prompt_name if name is None else name
        return "" if name is None else self.prompts[name] or ""


def load_embedding_prompts(path: Path) -> EmbeddingPrompts:
    """Return those of a model's directory; none of a file. Raises ModelError."""
    file = path / "config_sentence_transformers.json"
    if not path.is_dir() or not file.exists():
        return EmbeddingPrompts()
    found = read_json(file, EmbeddingPrompts)
    # sentence-transformers 6.2 refuses such a name as well.
    if found.default_prompt_name is not None and found.default_prompt_name not in found.prompts:
        return msgspec.structs.replace(found, default_prompt_name=None)
    return found

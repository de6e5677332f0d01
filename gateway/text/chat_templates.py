"""Finds the chat templates of a model, wherever its files keep them, by name.

Owns which place wins: in a directory as transformers 5.23 has it for a tokenizer, in a GGUF as
llama.cpp. `default` is the one for every conversation; a `tool_use` goes before it where there are
tools. Runs no template. Called by the supervisor, so that a bad file ends the start, and by every
worker.
"""

from pathlib import Path

import msgspec

from backend.config.errors import ModelError
from backend.config.gguf_header import read_metadata
from backend.config.hf_directory import read_json

DEFAULT = "default"
TOOL_USE = "tool_use"

_FILE = "chat_template.jinja"
_FOLDER = "additional_chat_templates"
_GGUF_KEY = "tokenizer.chat_template"
# A GGUF may name this form instead of having it as a template.
_CHATML_NAME = "chatml"
_CHATML = (
    "{% for message in messages %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class _Named(msgspec.Struct):
    name: str
    template: str


class _TokenizerConfig(msgspec.Struct):
    """tokenizer_config.json. A list is how transformers before 4.43 wrote several."""

    chat_template: str | list[_Named] | dict[str, str] | None = None


class _ProcessorConfig(msgspec.Struct):
    """processor_config.json, and the older chat_template.json."""

    chat_template: str | None = None


def load_chat_templates(path: Path, choice: str = "") -> dict[str, str]:
    """Return the sources of a model's templates by name; none for a model that has none.

    path: a GGUF file or a Hugging Face directory. choice: the file of another template, or which of
    the model's own is for every conversation, with tools and without.
    Raises ModelError for what cannot be read, and for a choice that is neither.
    """
    if choice and Path(choice).is_file():
        return {DEFAULT: _text_of_choice(Path(choice))}
    own = _of_directory(path) if path.is_dir() else _of_gguf(path)
    if not choice:
        return own
    if choice in own:
        return {DEFAULT: own[choice]}
    names = f"its own are: {', '.join(sorted(own))}" if own else "it has none of its own"
    raise ModelError(
        f"--chat-template {choice}: no such file, and no template of the model; {names}.\n"
        "Give the path of a Jinja file."
    )


def _of_directory(directory: Path) -> dict[str, str]:
    found = {}
    if (directory / _FILE).is_file():
        found[DEFAULT] = _text(directory / _FILE)
    for file in sorted((directory / _FOLDER).glob("*.jinja")):
        found[file.name.removesuffix(".jinja")] = _text(file)
    # Files of their own replace all that the configuration has, of whatever name.
    return found or _of_tokenizer_config(directory) or _of_processor(directory)


def _of_tokenizer_config(directory: Path) -> dict[str, str]:
    path = directory / "tokenizer_config.json"
    given = read_json(path, _TokenizerConfig).chat_template if path.is_file() else None
    match given:
        case None | "":
            return {}
        case str():
            return {DEFAULT: given}
        case list():
            return {entry.name: entry.template for entry in given}
        case _:
            return given


def _of_processor(directory: Path) -> dict[str, str]:
    """Models of images and text may have theirs here alone: transformers' processor reads it."""
    for name in ("processor_config.json", "chat_template.json"):
        path = directory / name
        if path.is_file() and (template := read_json(path, _ProcessorConfig).chat_template):
            return {DEFAULT: template}
    return {}


def _of_gguf(path: Path) -> dict[str, str]:
    listed = read_metadata(path, frozenset([_GGUF_KEY, f"{_GGUF_KEY}s"]))
    others = listed.get(f"{_GGUF_KEY}s")
    names = {TOOL_USE, *map(str, others if isinstance(others, tuple) else ())}
    pairs = read_metadata(path, frozenset(f"{_GGUF_KEY}.{name}" for name in names))
    found = {key.removeprefix(f"{_GGUF_KEY}."): str(value) for key, value in pairs.items()}
    default = listed.get(_GGUF_KEY)
    if default in (None, "", _CHATML_NAME):
        # llama.cpp has ChatML for a file without any template, too: a model that was trained on
        # none would answer it with nonsense.
        default = found.get(TOOL_USE) or (_CHATML if default == _CHATML_NAME else None)
    return {DEFAULT: str(default), **found} if default is not None else found


def _text_of_choice(path: Path) -> str:
    text = _text(path)
    if not text.strip():
        raise ModelError(f"--chat-template {path}: the file is empty")
    return text


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise ModelError(f"{path}: is not UTF-8 text: {error}") from None

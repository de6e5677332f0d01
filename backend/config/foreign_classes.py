"""Whether transformers' class of a model can be served at all: read off its source, not run.

To import transformers takes seconds, and a rank does it. What it would refuse then is refused here,
before anything is spawned, wherever the source says so; what it does not say is left to the rank
(models/transformers_backend.py). No torch, no transformers.
"""

import ast
import re
import threading
from importlib.util import find_spec
from pathlib import Path

from backend.config.errors import ModelError

# Classes that do not say so, and let others attend nevertheless: tests hold their numbers.
ALSO_SERVED = frozenset({"StableLmForCausalLM"})
# What modules do whose layers keep a state beside keys and values, or instead. Some of their
# classes do not call themselves stateful.
_KEEPS_STATE = re.compile(
    r"\b(_is_stateful = True|(update_(conv|recurrent)_state|set_linear_cache)\()"
)

# Python 3.11 loses count of the depth where two threads parse at once.
_PARSING = threading.Lock()


def check_class(architecture: str, model_type: object, text_type: object = None) -> None:
    """Raise ModelError if a class keeps a state of its own, lets nobody else attend, or does not
    answer by itself.

    model_type: of config.json, which names the module. text_type: that of its text_config, where
    there is one: the decoder of a model that sees may be another module's.
    """
    if architecture.endswith("AssistantForCausalLM"):
        raise ModelError(
            f"{architecture} guesses tokens for another model, whose keys and values it reads: by "
            "itself it answers nothing\nserve the model that it belongs to"
        )
    source = _source(model_type)
    if any(each and _KEEPS_STATE.search(each) for each in (source, _source(text_type))):
        raise ModelError(keeps_state(architecture))
    if source is None:
        return
    if architecture not in ALSO_SERVED and _is_closed(architecture, source):
        raise ModelError(lets_nobody_attend(architecture))


def keeps_state(architecture: str) -> str:
    """Return what is said of a class whose layers keep states."""
    return (
        f"transformers' {architecture} keeps a state of its own beside keys and values (Mamba, "
        "linear attention, short convolutions),\nwhich its code cannot be served with here; "
        "a family of ours would have to know it\na GGUF file of the model in llama.cpp may serve it"
    )


def lets_nobody_attend(architecture: str) -> str:
    """Return what is said of a class whose attention cannot be replaced."""
    return (
        f"transformers' {architecture} cannot be served with a paged cache: its class lets nobody "
        "else attend\na GGUF file of the model in llama.cpp may serve it"
    )


def _source(model_type: object) -> str | None:
    """Return the source of a model's module; None where there is none under its name."""
    spec = find_spec("transformers")
    if spec is None or spec.origin is None or not isinstance(model_type, str):
        return None
    name = model_type.replace("-", "_")
    if not name.isidentifier():
        return None
    # The text of a model that sees has a type of its own, and the module of the whole.
    for module in (name, name.removesuffix("_text")):
        path = Path(spec.origin).parent / "models" / module / f"modeling_{module}.py"
        if path.is_file():
            return path.read_text(encoding="utf-8")
    return None


def _is_closed(architecture: str, source: str) -> bool:
    """Whether a class that a module defines says nowhere that others may attend."""
    try:
        with _PARSING:
            module = ast.parse(source)
    except SyntaxError:
        return False
    classes = {node.name: node for node in module.body if isinstance(node, ast.ClassDef)}
    if architecture not in classes:
        return False
    waiting, seen = [architecture], set[str]()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        for node in classes[name].body:
            if ast.unparse(node) == "_supports_attention_backend = True":
                return False
        bases = [base.id for base in classes[name].bases if isinstance(base, ast.Name)]
        waiting += [base for base in bases if base in classes and base not in seen]
    return True

"""What of a model of transformers is ours: attention, linears, tables; and how ranks share them.

Reads modules and their configuration; imports no transformers. The plan of who shares what is the
model's own (base_model_tp_plan), cut by KV heads and MLP columns as all our models are.
"""

import inspect
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
from torch import nn

from backend.config.errors import ModelError
from backend.config.foreign import Foreign
from backend.config.hf_directory import Inventory
from backend.config.model_config import ModelConfig
from backend.config.spec import MLP, Attention, DecoderSpec, Layer, Norm
from backend.config.tensor_info import Cut, TensorInfo
from backend.config.tensors import EMBEDDING, HEAD
from backend.models.foreign_plan import Role, SharingPlan

HEAD_BIAS = "lm_head.bias"
_DYNAMIC_ROPES = ("dynamic", "longrope")


@dataclass(frozen=True, slots=True)
class Layout:
    """attention: module -> its layer. gathering: those of which every rank makes all heads.
    linears: module -> its role. tables: parameter -> the tensor of ours that it is. base: what of
    the class is the decoder, without its head. why_whole: why several ranks cannot share the model,
    "" if they can."""

    config: ModelConfig
    attention: dict[str, int]
    gathering: set[str]
    linears: dict[str, Role]
    tables: dict[str, str]
    embedding: str
    head: str
    base: str
    why_whole: str


class ConvertedTensors(Protocol):
    """names: of the files' tensors that a parameter is made of."""

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def parameter(self) -> str: ...


def lay_out(
    causal: Any,
    config: ModelConfig,
    names: dict[str, str],
    converted: Collection[ConvertedTensors],
    inventory: Inventory,
) -> Layout:
    """Complete a configuration and say what becomes of each module. Raises ModelError.

    names: parameter -> tensor of the files.
    """
    who = f"transformers' {type(causal).__name__}"
    modules = dict(causal.named_modules())
    skipped = cross_attention_layers(causal)
    attention = _attention_modules(modules, {*range(config.num_layers)} - skipped, who)
    _check_rotation(modules, who)
    _check_causal([modules[name] for name in attention], who)
    embedding = _name_of(modules, causal.get_input_embeddings())
    head = _name_of(modules, causal.get_output_embeddings())
    if embedding is None or head is None or type(modules[head]) is not nn.Linear:
        raise ModelError(f"{who} has no table of tokens, or no linear head: it is not served")
    _check_ties(causal, names, f"{head}.weight", who)
    is_tied = _is_tied(causal.config, names, f"{embedding}.weight", f"{head}.weight", inventory)
    base = _base(causal, embedding, head, who)
    config = _complete(causal, config, modules[next(iter(attention))], is_tied)
    plan = SharingPlan(config, causal, modules, attention, base)
    tensors: dict[str, TensorInfo] = {}
    tables: dict[str, str] = {}
    made = {name for entry in converted for name in entry.names}
    targets = _targets(converted, causal)
    for name, parameter in _wanted(causal):
        if name in targets or (is_tied and name == f"{head}.weight"):
            continue
        ours = {
            f"{embedding}.weight": EMBEDDING,
            f"{head}.weight": HEAD,
            f"{head}.bias": HEAD_BIAS,
        }.get(name, names.get(name, name))
        if ours in (HEAD, HEAD_BIAS):
            info = TensorInfo(tuple(parameter.shape), Cut.VOCAB_ROWS)
        else:
            info = plan.info(name, tuple(parameter.shape))
        tables[name], tensors[ours] = ours, info
    for name in sorted(made):
        tensors[name] = TensorInfo(inventory.shapes[name], is_plain=True)
    foreign = Foreign(
        type(causal).__name__,
        tensors,
        names.get(f"{embedding}.weight", f"{embedding}.weight").removesuffix(".weight"),
        names.get(f"{head}.weight", f"{head}.weight").removesuffix(".weight"),
    )
    config = msgspec.structs.replace(config, foreign=foreign)
    return Layout(
        config, attention, plan.gathering, plan.roles, tables, embedding, head, base,
        plan.why_whole,
    )  # fmt: skip


def cross_attention_layers(causal: Any) -> set[int]:
    """Return the layers that attend to what is seen alone: of a text they are passed over."""
    return {*(getattr(causal.config.get_text_config(), "cross_attention_layers", None) or ())}


def _attention_modules(
    modules: dict[str, nn.Module], layers: Collection[int], who: str
) -> dict[str, int]:
    """Return the modules that attend by whatever function is registered, and their layers."""
    found: dict[str, int] = {}
    for name, module in modules.items():
        code = getattr(inspect.unwrap(type(module).forward), "__code__", None)
        if code is not None and "ALL_ATTENTION_FUNCTIONS" in code.co_names:
            found[name] = getattr(module, "layer_idx", None)  # type: ignore[assignment]
    if sorted(found.values(), key=str) != sorted(layers, key=str):
        raise ModelError(
            f"{who} does not attend once in each of its {len(layers)} layers, so its keys and "
            "values, or other states, do not fit a paged cache\n"
            "a GGUF file of the model in llama.cpp may serve it"
        )
    return found


def _check_rotation(modules: dict[str, nn.Module], who: str) -> None:
    for module in modules.values():
        kinds = getattr(module, "rope_type", None)
        for kind in kinds.values() if isinstance(kinds, dict) else [kinds]:
            if kind in _DYNAMIC_ROPES:
                raise ModelError(
                    f"{who} would turn heads by the longest sequence of a batch (rope scaling "
                    f"{kind!r}): an answer would depend on its neighbours\n"
                    "a family of our own, or a GGUF file of the model, may serve it"
                )


def _check_causal(attention: Collection[nn.Module], who: str) -> None:
    if any(getattr(module, "is_causal", True) is False for module in attention):
        raise ModelError(
            f"{who} lets tokens see those after them, which is not served: as its config.json has"
            " it,\nit is an encoder, or its is_decoder is missing"
        )


def _check_ties(causal: Any, names: Collection[str], head: str, who: str) -> None:
    """Refuse a parameter that files leave out since it is another one's: the head alone may be."""
    ties = getattr(causal, "_tied_weights_keys", None)
    for name, source in ties.items() if isinstance(ties, dict) else ():
        if name != head and name not in names and source in names:
            raise ModelError(f"{who} takes {name} from {source}, which is not followed here")


def _name_of(modules: dict[str, nn.Module], wanted: object) -> str | None:
    return next((name for name, module in modules.items() if module is wanted), None)


def _base(causal: Any, embedding: str, head: str, who: str) -> str:
    """Return the module that makes hidden states of tokens. Where a class lacks what its prefix
    names (Mllama's is its text model's place in another class), it is that with the table."""
    children = dict(causal.named_children())
    for name in (causal.base_model_prefix, embedding.partition(".")[0]):
        if name in children and name != head:
            return name
    raise ModelError(
        f"{who} has no module of its own that makes hidden states of tokens: it is not served\n"
        "a GGUF file of the model in llama.cpp may serve it"
    )


def _is_tied(
    hf_config: Any, names: dict[str, str], embedding: str, head: str, inventory: Inventory
) -> bool:
    """Whether the embedding is the head, too: a head in the file that says otherwise counts."""
    if not getattr(hf_config, "tie_word_embeddings", False):
        return False
    if head not in names or embedding not in names:
        return True
    return inventory.are_equal(names[head], names[embedding])


def _complete(causal: Any, config: ModelConfig, attention: nn.Module, is_tied: bool) -> ModelConfig:
    """Return the configuration with the class's own defaults."""
    theirs = causal.config.get_text_config()
    num_heads = theirs.num_attention_heads
    num_kv_heads = _first_int(attention, ("num_key_value_heads", "num_kv_heads", "kv_heads"))
    num_kv_heads = num_kv_heads or getattr(theirs, "num_key_value_heads", None) or num_heads
    if getattr(theirs, "kv_lora_rank", None):
        num_kv_heads = num_heads  # keys and values are multiplied out again for every head
    head_dim = _first_int(attention, ("qk_head_dim", "head_dim", "head_size"))
    head_dim = head_dim or getattr(theirs, "head_dim", None) or theirs.hidden_size // num_heads
    width = getattr(theirs, "intermediate_size", None)
    mlp = MLP(width if isinstance(width, int) else 4 * theirs.hidden_size)
    windows = _windows(theirs, config.num_layers)
    skipped = cross_attention_layers(causal)
    layers = tuple(
        Layer(None if layer in skipped else Attention(rope=None, window=window), mlp)
        for layer, window in enumerate(windows)
    )
    return msgspec.structs.replace(
        config,
        vocab_size=theirs.vocab_size,
        hidden_size=theirs.hidden_size,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        spec=DecoderSpec(layers, Norm(1e-6)),
        tie_word_embeddings=is_tied,
    )


def _first_int(module: nn.Module, names: Collection[str]) -> int | None:
    """Return the first of these attributes that a module has, as a number."""
    sizes = (getattr(module, name, None) for name in names)
    return next((size for size in sizes if isinstance(size, int)), None)


def _windows(theirs: Any, num_layers: int) -> list[int]:
    """Return the window of each layer, 0 for none."""
    window = getattr(theirs, "sliding_window", None) or 0
    kinds = getattr(theirs, "layer_types", None)
    if kinds is None:
        return [window] * num_layers
    for kind in kinds:
        if kind not in ("full_attention", "sliding_attention"):
            raise ModelError(
                f"layer_types: {kind!r} is not served with transformers' code; full_attention and "
                "sliding_attention are"
            )
    return [window if kind == "sliding_attention" else 0 for kind in kinds]


def _targets(converted: Collection[ConvertedTensors], causal: Any) -> set[str]:
    """Return the parameters that are made of several tensors of the files."""
    return {entry.parameter for entry in converted}


def _wanted(causal: Any) -> Iterator[tuple[str, Any]]:
    """Walk what a directory has of a model: parameters, and buffers that are saved."""
    saved = causal.state_dict()
    yield from ((name, p) for name, p in causal.named_parameters() if name in saved)
    yield from ((name, b) for name, b in causal.named_buffers() if name in saved)

"""What a directory's model is served for, and how its hidden states become vectors or scores.

Reads the files of sentence-transformers beside config.json: modules.json, the folders it names and
sentence_bert_config.json. Called by huggingface.py. Runs nothing: a module is known by its name.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from backend.config.errors import ModelError
from backend.config.hf_directory import read_json
from backend.config.model_config import ModelConfig
from backend.config.pooling import Dense, Pooling, PoolingMode, Task
from backend.config.tasks import answer_ids, check_task, default_embedder

_MODES: tuple[PoolingMode, ...] = (
    "cls",
    "max",
    "mean",
    "mean_sqrt_len_tokens",
    "weightedmean",
    "lasttoken",
)
# Flags of files before sentence-transformers 5, in the order in which vectors are joined.
_FLAGS: dict[str, PoolingMode] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_NO_LENGTH = 10**9  # model_max_length of a tokenizer that says nothing is 1e30


class _Module(msgspec.Struct):
    type: str
    path: str = ""


class _PoolingFile(msgspec.Struct):
    pooling_mode: str | list[str] | None = None
    pooling_mode_cls_token: bool = False
    pooling_mode_max_tokens: bool = False
    pooling_mode_mean_tokens: bool = False
    pooling_mode_mean_sqrt_len_tokens: bool = False
    pooling_mode_weightedmean_tokens: bool = False
    pooling_mode_lasttoken: bool = False
    include_prompt: bool = True


class _DenseFile(msgspec.Struct):
    in_features: int
    out_features: int
    bias: bool = True
    activation_function: str | None = "torch.nn.modules.activation.Tanh"
    module_input_name: str = "sentence_embedding"
    module_output_name: str | None = None
    use_residual: bool = False


class _LogitFile(msgspec.Struct):
    true_token_id: int
    false_token_id: int | None = None


class _ScoreFile(msgspec.Struct):
    activation_fn: str | None = None


class _LengthFile(msgspec.Struct):
    max_seq_length: int | None = None


class _TokenizerFile(msgspec.Struct):
    model_max_length: float | None = None


class _VocabularyModel(msgspec.Struct):
    vocab: dict[str, int] | list[Any]


class _VocabularyFile(msgspec.Struct):
    model: _VocabularyModel


def with_task(
    directory: Path, config: ModelConfig, fields: Mapping[str, Any], task: Task
) -> ModelConfig:
    """Return the configuration for what the model is served for.

    fields: of config.json. task: what the operator wants. Raises ModelError where the model cannot
    do that, and for modules that are not known.
    """
    try:
        modules = _modules(directory)
        wanted = check_task(config, _natural_task(config, fields, modules), task)
        if wanted == "generate":
            return config
        if wanted == "rerank":
            config = config.pooled(_reranker(directory, config, fields, modules))
        else:
            config = config.pooled(*_embedder(directory, config, modules))
    except ModelError as exc:
        raise ModelError(f"{directory}: {exc}") from None
    limit = min(config.max_model_len, _max_length(directory) or config.max_model_len)
    return msgspec.structs.replace(config, max_model_len=limit)


def _natural_task(config: ModelConfig, fields: Mapping[str, Any], modules: list[_Module]) -> Task:
    """Return what the files say that a model is for."""
    if config.spec.classifier:
        return "rerank"
    if config.sees_ahead:
        return "embed"
    if modules:
        return "rerank" if any(_kind(module) == "LogitScore" for module in modules) else "embed"
    names = fields.get("architectures") or [""]
    # GPT2LMHeadModel has a head, as its name says.
    is_bare = str(names[0]).endswith("Model") and not str(names[0]).endswith("LMHeadModel")
    return "embed" if is_bare else "generate"


def _embedder(
    directory: Path, config: ModelConfig, modules: list[_Module]
) -> tuple[Pooling, tuple[str, ...]]:
    """Return the pooling of an embedding model, and what the operator should know of it."""
    if not modules:
        return default_embedder(config, "no modules.json")
    if _kind(modules[0]) != "Transformer" or modules[0].path:
        raise ModelError(f"modules.json: begins with {modules[0].type} in {modules[0].path!r}")
    pooling = Pooling("embed")
    for module in modules[1:]:
        pooling = _add(directory, module, pooling)
    if not pooling.modes:
        raise ModelError("modules.json: names no Pooling; only one vector a text is served")
    size = config.hidden_size * len(pooling.modes)
    for dense in pooling.dense:
        if dense.in_features != size:
            raise ModelError(f"{dense.folder}: in_features is {dense.in_features}, not {size}")
        size = dense.out_features
    return pooling, ()


def _add(directory: Path, module: _Module, pooling: Pooling) -> Pooling:
    """Return the pooling with what a module adds to it."""
    match _kind(module):
        case "Pooling" if not pooling.modes:
            return msgspec.structs.replace(pooling, modes=_read_modes(directory, module))
        case "Dense" if pooling.modes and not pooling.is_normalized:
            dense = _read_dense(directory, module)
            return msgspec.structs.replace(pooling, dense=(*pooling.dense, dense))
        case "Normalize" if pooling.modes:
            return msgspec.structs.replace(pooling, is_normalized=True)
        case "Dropout":
            return pooling
    raise ModelError(
        f"modules.json: {module.type} is not supported in that place\n"
        "Transformer, Pooling, Dense, Normalize, in this order, are"
    )


def _reranker(
    directory: Path, config: ModelConfig, fields: Mapping[str, Any], modules: list[_Module]
) -> Pooling:
    if classifier := config.spec.classifier:
        skipped = fields.get("pad_token_id") if classifier.of == "lasttoken" else None
        return Pooling(
            "rerank",
            (classifier.of,),
            is_raw=_is_raw(directory, fields),
            skipped_id=skipped if isinstance(skipped, int) else None,
        )
    for module in modules:
        if _kind(module) == "LogitScore":
            scored = read_json(_config_of(directory, module), _LogitFile)
            if scored.false_token_id is None:
                return Pooling("rerank", ("lasttoken",), answer_ids=(scored.true_token_id,))
            return Pooling(
                "rerank", ("lasttoken",), answer_ids=(scored.true_token_id, scored.false_token_id)
            )
    return Pooling("rerank", ("lasttoken",), answer_ids=_ids_of_answers(directory))


def _is_raw(directory: Path, fields: Mapping[str, Any]) -> bool:
    """Whether a cross-encoder's scores are its logits.

    As CrossEncoder of sentence-transformers 6.2 decides: the sigmoid, unless the file names another
    activation.
    """
    path = directory / "config_sentence_transformers.json"
    name = read_json(path, _ScoreFile).activation_fn if path.exists() else None
    own = fields.get("sentence_transformers")
    if name is None and isinstance(own, dict):
        name = own.get("activation_fn")
    name = name or fields.get("sbert_ce_default_activation_function")
    kind = str(name).rpartition(".")[2] if name else "Sigmoid"
    if kind not in ("Sigmoid", "Identity"):
        raise ModelError(f"activation_fn {name!r} is not supported; Sigmoid and Identity are")
    return kind == "Identity"


def _ids_of_answers(directory: Path) -> tuple[int, ...]:
    path = directory / "tokenizer.json"
    if not path.exists():
        raise ModelError("--task rerank needs a tokenizer.json, to know the tokens of its answers")
    vocabulary = read_json(path, _VocabularyFile).model.vocab
    return answer_ids(vocabulary if isinstance(vocabulary, dict) else {})


def _modules(directory: Path) -> list[_Module]:
    path = directory / "modules.json"
    return read_json(path, list[_Module]) if path.exists() else []


def _kind(module: _Module) -> str:
    """Return the name of a module's class, if it is one of sentence-transformers' own."""
    is_own = module.type.startswith("sentence_transformers.")
    return module.type.rpartition(".")[2] if is_own else module.type


def _config_of(directory: Path, module: _Module) -> Path:
    if Path(module.path).name != module.path:
        raise ModelError(f"modules.json: names {module.path!r}; only folders beside it are read")
    return directory / module.path / "config.json"


def _read_modes(directory: Path, module: _Module) -> tuple[PoolingMode, ...]:
    path = _config_of(directory, module)
    file = read_json(path, _PoolingFile)
    if not file.include_prompt:
        raise ModelError(f"{path}: include_prompt is false: prompts cannot be left out of a vector")
    if file.pooling_mode is None:
        flags = [mode for flag, mode in _FLAGS.items() if getattr(file, flag)]
        return tuple(flags) or ("mean",)
    names = [file.pooling_mode] if isinstance(file.pooling_mode, str) else file.pooling_mode
    modes = [mode for name in names for mode in _MODES if mode == name]
    if len(modes) != len(names) or not modes:
        raise ModelError(f"{path}: pooling_mode {file.pooling_mode!r} is not supported")
    return tuple(modes)


def _read_dense(directory: Path, module: _Module) -> Dense:
    path = _config_of(directory, module)
    file = read_json(path, _DenseFile)
    name = (file.activation_function or "Identity").rpartition(".")[2].lower()
    between = {file.module_input_name, file.module_output_name or file.module_input_name}
    if file.use_residual or between != {"sentence_embedding"}:
        raise ModelError(f"{path}: only a plain layer behind the pooling is supported")
    try:
        return msgspec.convert(
            {
                "folder": module.path,
                "in_features": file.in_features,
                "out_features": file.out_features,
                "has_bias": file.bias,
                "activation": name,
            },
            Dense,
        )
    except msgspec.ValidationError:
        shown = file.activation_function
        raise ModelError(f"{path}: activation_function {shown!r} is not supported") from None


def _max_length(directory: Path) -> int | None:
    """Return how many tokens of a text sentence-transformers takes; None if no file says."""
    path = directory / "sentence_bert_config.json"
    length = read_json(path, _LengthFile).max_seq_length if path.exists() else None
    path = directory / "tokenizer_config.json"
    if length is None and path.exists():
        most = read_json(path, _TokenizerFile).model_max_length
        length = int(most) if most and most < _NO_LENGTH else None
    return length

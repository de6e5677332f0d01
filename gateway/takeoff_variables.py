"""The variables of a Takeoff deployment, as settings: TAKEOFF_MODEL_NAME and the like.

Owns their names, how their values differ from ours, and what is said of those that have no effect
here. Knows no files or flags: setting_sources.py puts what is found between these.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gateway.options import Option, SettingsError, suggestion

PREFIX = "TAKEOFF_"
# Its inference port, where its variables are what says which model is served.
DEFAULT_PORT = 3000

# What Kubernetes puts into every container for a Service whose name starts with "takeoff".
_KUBERNETES = re.compile(r"TAKEOFF_.*(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_[A-Z]+(_[A-Z]+)?)")
_KUBERNETES_URL = re.compile(r"(tcp|udp|sctp)://")

# Its variables without the prefix -> our settings. The token is the one for gated models.
_SAME = {
    "MODEL_NAME": "model",
    "ACCESS_TOKEN": "hf_token",
    "DEVICE": "device",
    "TENSOR_PARALLEL": "tp",
    "MAX_BATCH_SIZE": "max_num_seqs",
    "MAX_SEQUENCE_LENGTH": "max_model_len",
    "CONSUMER_GROUP": "group_name",
    "QUANT_TYPE": "quantization",
    "LOG_LEVEL": "log_level",
    "PORT": "port",
    "MANAGEMENT_PORT": "management_port",
    "BODY_SIZE_LIMIT_BYTES": "max_body_bytes",
    "PAGE_CACHE_SIZE": "kv_cache_bytes",
}
_BACKENDS = ("awq", "fast-ct2", "full-ct2", "ggml", "hf", "multi-gpu")
# Values that are called otherwise here, by ours. awq: said of files that are so.
_VALUES = {
    "quantization": {"awq": "auto"},
    "log_level": {"trace": "debug", "warn": "warning"},
}
# Of what is built otherwise here: batches, queues, graphs, traces.
_WITHOUT_EFFECT = frozenset(
    """
    ADD_READER_ID_SUFFIX ALLOW_REMOTE_IMAGES BATCH_DURATION_MILLIS BUFFER_REQUESTS
    CONSTRAINED_DECODING_BACKEND CUDA_GRAPH_CACHE_CAPACITY DISABLE_BATCHING
    DISABLE_CONTINUOUS_GENERATION DISABLE_CUDA_GRAPH DISABLE_PAGED_ATTENTION DISABLE_STATIC ECHO
    ENABLE_METRICS EXPORT_TRACES HEADLESS HEARTBEAT_CHECK_INTERVAL HEARTBEAT_WAIT_INTERVAL
    LICENSE_KEY METRICS_TARGET NVLINK_UNAVAILABLE READER_ID REDIS_HOST REDIS_PORT REFILL_THRESHOLD
    REILL_THRESHOLD REPOSITORY_PATH RESERVED_CONSUMERS RUN_NAME TRACES_HOST VERTEX_PORT
    """.split()
)

# Setting -> (value, the variable).
_Found = dict[str, tuple[object, str]]


@dataclass(slots=True)
class TakeoffSettings:
    """What its variables say. found: of settings; implied: of those that files may say otherwise.
    notes: lines for the operator."""

    found: _Found = field(default_factory=dict)
    implied: _Found = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_takeoff(environ: Mapping[str, str], options: Mapping[str, Option]) -> TakeoffSettings:
    """Return what the variables say. options: ours, by name.

    Raises SettingsError, which names the variable, for a value that cannot be.
    """
    said = {
        variable.removeprefix(PREFIX): text.strip()
        for variable, text in environ.items()
        if variable.startswith(PREFIX) and text.strip() and not _is_foreign(variable, text)
    }
    settings = TakeoffSettings()
    visible = environ.get("CUDA_VISIBLE_DEVICES", "")
    _read_backend(said.get("BACKEND", ""), visible, options, settings)
    for name, setting in _SAME.items():
        if name in said:
            _read(PREFIX + name, said[name], options[setting], settings)
    if "MODEL_NAME" in said:
        settings.implied["port"] = (DEFAULT_PORT, f"{PREFIX}MODEL_NAME")
    if useless := sorted(said.keys() & _WITHOUT_EFFECT):
        named = ", ".join(PREFIX + name for name in useless)
        settings.notes.append(f"without effect here: {named}")
    for name in sorted(said.keys() - _WITHOUT_EFFECT - _SAME.keys() - {"BACKEND"}):
        known = [PREFIX + each for each in (*_SAME, "BACKEND")]
        meant = suggestion(PREFIX + name, known, PREFIX)
        settings.notes.append(f"{PREFIX}{name} is not known here and has no effect{meant}")
    return settings


def in_variables(message: str, sources: Mapping[str, str]) -> str:
    """Return a refusal that names flags with the variables that set these.

    sources: setting -> where its value comes from.
    """
    for name, source in sources.items():
        if source.startswith(PREFIX):
            flag = re.escape("--" + name.replace("_", "-"))
            message = re.sub(rf"{flag}(?![\w-])", source, message)
    return message


def _read(variable: str, text: str, option: Option, settings: TakeoffSettings) -> None:
    convert = _CONVERSIONS.get(option.name)
    value = convert(variable, text) if convert else text
    if value is None:
        settings.notes.append(f"{variable}={text} has no effect here: give a number of bytes")
        return
    ours = _VALUES.get(option.name, {}).get(value, value)
    settings.found[option.name] = (option.read(ours, variable), variable)


def _read_backend(
    backend: str, visible: str, options: Mapping[str, Option], settings: TakeoffSettings
) -> None:
    """multi-gpu is a rank for each visible device; the others say how to compute on one device,
    which is not for the caller to know here."""
    if backend and backend not in _BACKENDS:
        known = ", ".join(_BACKENDS)
        raise SettingsError(f"{PREFIX}BACKEND must be one of {known}, not {backend!r}")
    devices = [device for device in visible.split(",") if device.strip() not in ("", "-1")]
    if backend == "multi-gpu" and devices:
        source = f"{PREFIX}BACKEND=multi-gpu, CUDA_VISIBLE_DEVICES={visible}"
        settings.found["tp"] = (options["tp"].read(str(len(devices)), source), source)


def _device(variable: str, text: str) -> str:
    if text.lower() == "api":
        raise SettingsError(
            f"{variable}=api is a model of another server; this one computes itself: cpu or cuda"
        )
    return text.lower()


def _page_cache(variable: str, text: str) -> str | None:
    return None if text.endswith("%") else text


def _lower(variable: str, text: str) -> str:
    return text.lower()


# By our setting. None: what is said cannot be had here, and changes nothing.
_CONVERSIONS: dict[str, Callable[[str, str], str | None]] = {
    "device": _device,
    "kv_cache_bytes": _page_cache,
    "log_level": _lower,
    "quantization": _lower,
}


def _is_foreign(variable: str, text: str) -> bool:
    if _KUBERNETES.fullmatch(variable):
        return True
    return variable.endswith("_PORT") and _KUBERNETES_URL.match(text) is not None

"""What a process that measures an engine's steps tells whoever started it, a JSON line each.

Written by backend/measurement/step_times.py, read by gateway/bench/engine_steps.py.
"""

import msgspec


class MeasuredEngine(msgspec.Struct, frozen=True, tag="engine"):
    """What computes, told once it is loaded. weight_bytes: of its weights as they are kept."""

    family: str
    device: str
    dtype: str
    kernels: str
    threads: int
    weight_bytes: int
    kv_bytes: int
    block_size: int


class StepTimes(msgspec.Struct, frozen=True, tag="steps"):
    """One shape of work: how long it took each time, in seconds.

    kind "decode": a step of `batch` sequences of one token with `tokens` before them. "prompt": all
    steps of `batch` prompts of `tokens`, as many as the step budget cuts them into.
    """

    kind: str
    batch: int
    tokens: int
    seconds: list[float]


class NotMeasured(msgspec.Struct, frozen=True, tag="missing"):
    """A shape that the engine has no room for. reason: for the operator."""

    kind: str
    batch: int
    tokens: int
    reason: str


FromMeasurement = MeasuredEngine | StepTimes | NotMeasured

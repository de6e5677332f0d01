"""Steps of decodes as one program: their calls of our kernels, recorded once, replayed in C.

A step of a few rows makes some hundred calls that take less time than Python between them. The
first one is recorded as it runs, and serves its own number of rows from then on; the first of
another number is recorded as well, and if both are the same program it serves any. A model of which
PyTorch computes a part, or whose calls depend on the rows otherwise, runs call by call as before.
A program does what the calls did, so results are the same bits.
"""

import ctypes
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from backend.native import calls
from backend.native.program import Program
from backend.native.recording import NotRecordable, Recording, Span
from backend.ops.batch import StateBatch
from backend.ops.step_recording import StepRecording

logger = logging.getLogger(__name__)


class HasCalls(Protocol):
    """A plan of attention. calls: of its layers, by their kernels."""

    @property
    def calls(self) -> dict[str, ctypes.Structure]: ...


@dataclass(frozen=True, slots=True)
class StepGiven:
    """What a step gives its calls. tensors: the inputs, each with R rows; plans: of attention;
    states: which states are read and written, where layers keep any."""

    tensors: Sequence[Tensor]
    plans: Sequence[HasCalls]
    states: StateBatch | None

    @property
    def num_rows(self) -> int:
        return len(self.tensors[0])

    @property
    def calls(self) -> list[dict[str, ctypes.Structure]]:
        """Of each plan its calls, by their kernels."""
        of_plans = [plan.calls for plan in self.plans]
        return of_plans if self.states is None else [*of_plans, _state_calls(self.states)]


class RecordedSteps:
    """Runs steps of one model over one cache, recorded where that can be.

    obstacle: why they are not, "" where they are or may be.
    """

    def __init__(self) -> None:
        self.obstacle = ""
        self._program: Program | None = None
        self._results: list[Tensor] = []
        self._recorded_rows = 0  # of the only recording; 0: there are two, or none

    @property
    def is_for_any_rows(self) -> bool:
        """Whether steps of any number of rows are replayed."""
        return self._program is not None and self._recorded_rows == 0

    def run(self, given: StepGiven, step: Callable[[], Tensor]) -> Tensor:
        """Return what a step gives, [R, width] in bf16; overwritten by the next run.

        step: does it call by call, with what is given.
        """
        if self.obstacle:
            return step()
        if self._program is None or self._recorded_rows not in (0, given.num_rows):
            return self._record(given, step)
        return self._replay(self._program, given)

    def _replay(self, program: Program, given: StepGiven) -> Tensor:
        if program.lay_out(given.num_rows):
            shown = [*program.code.sums, program.code.result]
            self._results = [
                torch.from_numpy(program.memory_of(part)).view(torch.bfloat16) for part in shown
            ]
        addresses = [tensor.data_ptr() for tensor in given.tensors]
        program.fill(addresses, given.calls)
        program.run(0)
        return self._results[-1]

    def _record(self, given: StepGiven, step: Callable[[], Tensor]) -> Tensor:
        with StepRecording() as recording:
            result = step()
        try:
            if recording.obstacle:
                raise NotRecordable(f"PyTorch computes {recording.obstacle}")
            code = Recording(
                rows=given.num_rows,
                given=[_span(tensor) for tensor in given.tensors],
                plans=given.calls,
                allocated=[_span(tensor) for tensor in recording.allocated],
            ).code(recording.entries, _span(result))
            if self._program and not self._program.code.is_same(code):
                raise NotRecordable("calls depend on the number of rows")
        except NotRecordable as obstacle:
            self._program, self.obstacle = None, str(obstacle)
            logger.info("decodes run call by call: %s", obstacle)
            return result
        self._recorded_rows = 0 if self._program else given.num_rows
        self._program = self._program or Program(code)
        return result


def _state_calls(states: StateBatch) -> dict[str, ctypes.Structure]:
    """Return the calls of layers that keep states, as far as a step says what they do."""
    addresses = {
        "reads": states.reads.data_ptr(),
        "writes": states.writes.data_ptr(),
        "starts": states.starts.data_ptr(),
        "chains": states.chains.data_ptr(),
    }
    return {
        "causal_conv": calls.CausalConv(**addresses),
        "delta_rule": calls.DeltaRule(**addresses),
        "ssm_scan": calls.SsmScan(**addresses),
    }


def _span(tensor: Tensor) -> Span:
    return Span(tensor.data_ptr(), tensor.nbytes)

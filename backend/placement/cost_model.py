"""How long a step takes on a device: what is read and multiplied, sums over ranks, serial parts.

A product waits for its weights and multiplies by them; both together take the root of the sum of
their squares, since each hides some of the other (measured, backend/measurement/products.py), and
threads that share it out take a while to meet. Keys and values are read at a rate of their own.
Sums over ranks are sum_cost.py's. What is left is serial, Amdahl's part: a step's, a layer's and a
row's own costs, which no rank shares. Rates are the device profile's.
"""

from dataclasses import dataclass
from functools import cached_property
from math import hypot
from typing import NamedTuple

import msgspec

from backend.placement.device_profile import DeviceProfile, MultiplyRate, Serving, at_rows
from backend.placement.footprint import Role
from backend.placement.hop import Hop
from backend.placement.rank_work import RankWork, chosen_experts
from backend.placement.sum_cost import far_sum_seconds, sum_seconds
from backend.quant.weight_format import WeightFormat

# A profile without a rate for an arithmetic: what its kernels fall back to, in this order.
_FALLBACKS = ("mixed", "int16", "int8", "bf16", "fp16", "fp32")
NO_NETWORK = Hop(0.0, 0.0)
# What crosses the network beside sums: a step's plan, and each rank's best logits.
_PLAN_WAYS, _DRAW_WAYS = 1, 1


class Rows(NamedTuple):
    """What is in a step of a group.

    decodes: sequences that get their next token; context: tokens each of them sees, on average.
    prompt_tokens: of prompts; position: of the tokens before them in their prompts, on average.
    sampled: rows that a token is drawn for.
    """

    decodes: float
    context: float
    prompt_tokens: float = 0.0
    position: float = 0.0
    sampled: float = 0.0


class StepTime(msgspec.Struct, frozen=True):
    """Seconds of a step, by what takes them.

    reading, multiplying: weights, by whichever of the two bounds each product. attention: keys,
    values and states. sums: over ranks. serial: what more ranks do not make less.
    hops: a stage's waiting for rows of the one before (stage_cost.py).
    """

    reading: float = 0.0
    multiplying: float = 0.0
    attention: float = 0.0
    sums: float = 0.0
    serial: float = 0.0
    hops: float = 0.0

    @property
    def total(self) -> float:
        parts = self.reading + self.multiplying + self.attention + self.sums
        return parts + self.serial + self.hops

    def __add__(self, other: "StepTime") -> "StepTime":
        return StepTime(
            self.reading + other.reading,
            self.multiplying + other.multiplying,
            self.attention + other.attention,
            self.sums + other.sums,
            self.serial + other.serial,
            self.hops + other.hops,
        )

    def times(self, count: float) -> "StepTime":
        """Return what so many such steps take."""
        return StepTime(
            count * self.reading,
            count * self.multiplying,
            count * self.attention,
            count * self.sums,
            count * self.serial,
            count * self.hops,
        )


@dataclass(frozen=True, slots=True)
class RankSpeed:
    """What one rank of several gets of a device.

    of a CPU: `threads` of the profile's, while all of `active` ranks read and multiply. arithmetic:
    of products of packed weights, dense: of those in the dtype of the forward pass.
    """

    profile: DeviceProfile
    arithmetic: str
    dense: str
    threads: int = 1
    active: int = 1

    def share(self, rows: float = 1) -> float:
        """Return the part of the device's arithmetic that this rank has, with so many rows."""
        profile = self.profile
        if profile.kind != "cpu":
            return 1.0
        wanted, most = self.threads * self.active, profile.threads
        if wanted >= most:
            return self.threads / wanted
        # A thread that has caches, memory and clock to itself makes more than its share.
        alone = at_rows(profile.thread_shares, rows, 1 / most)
        return self.threads * (alone + (1 / most - alone) * (wanted - 1) / (most - 1))

    def meeting_s(self, rows: float) -> float:
        """Return what this rank's threads take to meet in a product."""
        profile = self.profile
        if profile.kind != "cpu" or self.threads == 1:
            return 0.0
        part = (min(self.threads, profile.threads) - 1) / max(1, profile.threads - 1)
        return part * at_rows(profile.meetings, rows, 0.0)

    def read_bandwidth(self, weight_bytes: float) -> float:
        """Return bytes/s at which this rank reads its weights, of so many bytes in all."""
        profile = self.profile
        if profile.kind != "cpu":
            return profile.read_bandwidth_of(weight_bytes)
        # What all ranks read together is what a cache holds, or does not.
        together = weight_bytes * self.active
        thread = profile.thread_read_bandwidth_of(together)
        return min(thread * self.threads, profile.read_bandwidth_of(together) / self.active)

    def rate(self, weight_format: WeightFormat) -> MultiplyRate:
        """Return how fast products of a format are made by the whole device."""
        is_dense = weight_format is WeightFormat.DENSE
        names = (self.dense if is_dense else self.arithmetic, *_FALLBACKS)
        rates = (self.profile.multiply_rate(name, weight_format.value) for name in names)
        return next(filter(None, rates), next(iter(self.profile.multiply.values())))


class _Product(NamedTuple):
    """What products of one role and format take.

    read_s: to read all of their weights. row_operations: of a row. rate: of the
    whole device.
    """

    role: Role
    read_s: float
    row_operations: float
    rate: MultiplyRate


@dataclass(frozen=True)
class StepCost:
    """How long steps of one rank take. tp: ranks that share its layers, on so many `nodes`;
    network: between these. is_replayed: whether its steps of decodes are replayed without Python.

    A plan asks for the cost of ten thousands of steps: what does not depend on the rows is kept.
    """

    work: RankWork
    speed: RankSpeed
    tp: int
    is_replayed: bool = True
    nodes: int = 1
    network: Hop = NO_NETWORK

    def of(self, rows: Rows) -> StepTime:
        """Return the time of a step."""
        reading, multiplying = self._products(rows)
        return StepTime(
            reading, multiplying, self._attention(rows), self._sums(rows), self._serial(rows)
        )

    @cached_property
    def _multiplied(self) -> tuple[_Product, ...]:
        bandwidth = self.speed.read_bandwidth(self.work.read_bytes)
        return tuple(
            _Product(
                each.role,
                each.num_bytes / bandwidth,
                2 * each.num_values,
                self.speed.rate(each.kept_as),
            )
            for each in self.work.products
            if each.num_values
        )

    def _products(self, rows: Rows) -> tuple[float, float]:
        """Return the seconds of products that wait for their weights, and of the others."""
        reading = multiplying = 0.0
        for role, whole_read_s, row_operations, rate in self._multiplied:
            count, active = self._rows_of(role, rows)
            if not count:
                continue
            read_s = active * whole_read_s
            # Experts are as many products of fewer rows.
            one_or_more = max(1.0, count)
            speed = rate.at(one_or_more) * self.speed.share(one_or_more)
            multiply_s = count * active * row_operations / speed
            both_s = hypot(read_s, multiply_s)
            if read_s > multiply_s:
                reading += both_s
            else:
                multiplying += both_s
        return reading, multiplying

    def _rows_of(self, role: Role, rows: Rows) -> tuple[float, float]:
        """Return how many rows are multiplied, and by what part of the weights."""
        prompt = rows.prompt_tokens
        every = rows.decodes + (0.0 if self.work.reads_prompt_first else prompt)
        match role:
            case "head":
                return rows.sampled, 1.0
            case "encoder":
                return prompt, 1.0
            case "expert":
                share = self.work.experts_share
                active = chosen_experts(self.work.num_experts, share, every)
                return (every * share / active if active else 0.0), active
            case _:
                return every, 1.0

    @cached_property
    def _attention_speed(self) -> tuple[float, float]:
        """Bytes/s of keys and values and operations/s of scores that this rank has: of several a
        rank reads its part of what all threads read."""
        profile, share = self.speed.profile, self.speed.share()
        bandwidth = profile.attention_bandwidth or profile.read_bandwidth
        rate = profile.attention_rate or self.speed.rate(WeightFormat.DENSE).peak
        return bandwidth * share, rate * share

    def _attention(self, rows: Rows) -> float:
        profile, work = self.speed.profile, self.work
        bandwidth, rate = self._attention_speed
        read = rows.decodes * sum(
            [each.seen(rows.context) * each.kv_bytes for each in work.windows]
        )
        read_s = read / bandwidth
        if profile.kind == "cpu" and profile.attention_bandwidth:
            # That was measured while a cache held them; in a model weights pass through it as well.
            read_s = hypot(read_s, read / self.speed.read_bandwidth(work.read_bytes + read))
        # Where tokens see those behind them as well, each sees twice as many.
        position = max(1.0, rows.position if work.is_causal else 2 * rows.position)
        pairs = sum([each.seen(position) * each.operations for each in work.windows])
        states = rows.decodes * 2 * work.state_bytes / bandwidth
        states += rows.prompt_tokens * work.state_operations / rate
        return read_s + rows.prompt_tokens * pairs / rate + states

    def _sums(self, rows: Rows) -> float:
        count = self.work.num_sums
        if self.tp == 1 or not count:
            return 0.0
        num_rows = rows.decodes + rows.prompt_tokens
        num_bytes = num_rows * self.work.sum_bytes / count
        if self.nodes > 1:
            # The plan goes to the other nodes before the first sum.
            count += _PLAN_WAYS + (_DRAW_WAYS if rows.sampled else 0)
            profile, network = self.speed.profile, self.network
            return count * far_sum_seconds(profile, network, num_bytes, self.tp, self.nodes)
        return count * sum_seconds(self.speed.profile, num_bytes, self.tp)

    def _serial(self, rows: Rows) -> float:
        profile, work = self.speed.profile, self.work
        num_rows = rows.decodes + rows.prompt_tokens
        # All threads of a device were measured: fewer take longer.
        elements = num_rows * work.hidden * profile.element_overhead_s / self.speed.share()
        layer_s = profile.layer_overhead_s
        # One rank's steps of decodes are replayed (ops/recorded_steps.py), sums are called.
        if rows.prompt_tokens or not self.is_replayed:
            layer_s = profile.prompt_layer_overhead_s or layer_s
        return (
            profile.step_overhead_s
            + work.num_layers * layer_s
            + rows.sampled * profile.token_overhead_s
            + elements
            + self._meetings(rows)
            + self._served(rows)
        )

    def _meetings(self, rows: Rows) -> float:
        """Seconds that threads of this rank take to meet in all products."""
        speed = self.speed
        layers_s = self.work.num_products * speed.meeting_s(rows.decodes + rows.prompt_tokens)
        return layers_s + (speed.meeting_s(rows.sampled) if rows.sampled else 0.0)

    def _served(self, rows: Rows) -> float:
        """Seconds that serving adds to a step, of a gateway and clients on the same machine."""
        if not rows.sampled:
            return 0.0
        serving = self._serving
        return serving.step_s + rows.sampled * serving.token_s

    @property
    def _serving(self) -> Serving:
        profile, speed = self.speed.profile, self.speed
        if profile.kind != "cpu":
            return Serving()
        if speed.threads * speed.active < profile.threads:
            return profile.beside_free_core
        return profile.on_all_cores if speed.threads > 1 else profile.on_each_core

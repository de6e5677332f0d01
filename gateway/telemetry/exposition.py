"""All figures of a server in Prometheus' words. Knows no processes but by their pids.

Called by /metrics in whichever worker is asked.
"""

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector, CollectorRegistry

from gateway import procfs
from gateway.telemetry import families
from gateway.telemetry.families import Family
from gateway.telemetry.figures import (
    GroupFigures,
    Ledger,
    Process,
    SupervisorFigures,
    WorkerFigures,
)

Row = tuple[tuple[str, ...], float]


class ServerFigures(Collector):
    """One scrape: every worker's figures added up, the groups', the processes'."""

    def __init__(
        self,
        workers: dict[int, WorkerFigures],
        groups: Sequence[GroupFigures],
        supervisor: SupervisorFigures,
        info: tuple[str, str],
    ) -> None:
        """info: release and model."""
        self._workers = workers
        self._groups = groups
        self._supervisor = supervisor
        self._info = info

    def text(self, accept: str) -> tuple[bytes, str]:
        """Return the page and its content type, in the format a scraper accepts."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        encode, content_type = choose_encoder(accept)
        return encode(registry), content_type

    def collect(self) -> Iterator[Metric]:
        """Yield every family, those without a value too."""
        yield _gauge(families.INFO, [(self._info, 1.0)])
        yield from self._recorded()
        queued = [((str(n),), float(w.num_queued)) for n, w in sorted(self._workers.items())]
        yield _gauge(families.QUEUED, queued)
        waits = [((str(n),), w.queue_seconds) for n, w in sorted(self._workers.items())]
        yield _gauge(families.QUEUE_SECONDS, waits)
        yield from _of_groups(self._groups)
        yield from _of_processes(self._supervisor)

    def _recorded(self) -> Iterator[Metric]:
        ledger = Ledger()
        for figures in self._workers.values():
            ledger.include(figures)
        for family in families.RECORDED:
            if family.bounds:
                yield _histogram(family, ledger)
            else:
                rows = [(c.labels, c.value) for c in ledger.counts if c.stem == family.stem]
                yield _counter(family, rows or ([] if family.labels else [((), 0.0)]))


def _of_groups(groups: Sequence[GroupFigures]) -> Iterator[Metric]:
    def now(family: Family, field: str) -> Metric:
        rows = [((str(g.replica),), float(getattr(g, field))) for g in groups]
        return _gauge(family, rows)

    def total(family: Family, field: str) -> Metric:
        rows = [((str(g.replica),), float(getattr(g.totals, field))) for g in groups if g.totals]
        return _counter(family, rows)

    yield now(families.GROUP_READY, "is_ready")
    yield now(families.RUNNING, "num_running")
    yield now(families.WAITING, "num_waiting")
    yield now(families.KV_USAGE, "kv_usage")
    yield total(families.STEPS, "num_steps")
    yield total(families.ENGINE_PROMPT, "num_prompt_tokens")
    yield total(families.ENGINE_OUTPUT, "num_output_tokens")
    yield total(families.PREEMPTIONS, "num_preemptions")
    yield total(families.PREFIX_QUERIES, "num_prefix_queries")
    yield total(families.PREFIX_HITS, "num_prefix_hits")
    yield total(families.FULL_GATHERS, "num_full_gathers")
    yield from _of_states(groups)
    phases = [
        ((str(g.replica), phase), float(getattr(g.totals, f"{phase}_s")))
        for g in groups
        if g.totals is not None
        for phase in ("schedule", "forward", "sample")
    ]
    yield _counter(families.STEP_TIME, phases)


def _of_states(groups: Sequence[GroupFigures]) -> Iterator[Metric]:
    """Yield what groups keep of fixed size; of a model without states no rows."""
    found = [(str(g.replica), g.totals.states) for g in groups if g.totals and g.totals.states]
    for render, family, field in (
        (_gauge, families.STATE_SLOTS, "num_in_use"),
        (_gauge, families.STATE_SNAPSHOTS, "num_snapshots"),
        (_counter, families.STATE_HITS, "num_hits"),
        (_counter, families.STATE_EVICTIONS, "num_evictions"),
    ):
        rows = [((group,), float(getattr(states, field))) for group, states in found]
        yield render(family, rows)


def _of_processes(supervisor: SupervisorFigures) -> Iterator[Metric]:
    yield _gauge(families.START_TIME, [((), supervisor.started)])
    states = [((str(n), state), 1.0) for n, state in sorted(supervisor.group_states.items())]
    yield _gauge(families.GROUP_STATE, states)
    nodes = [((str(n), node), 1.0) for n, node in sorted(supervisor.group_nodes.items())]
    yield _gauge(families.GROUP_NODE, nodes)
    yield _counter(families.GROUP_RESTARTS, _numbered(supervisor.group_restarts))
    yield _counter(families.WORKER_RESTARTS, _numbered(supervisor.worker_restarts))
    refused = [((r.group, r.reason), float(r.count)) for r in supervisor.refused]
    yield _counter(families.REFUSED, refused)
    seconds: list[Row] = []
    resident: list[Row] = []
    for process in supervisor.processes:
        labels = (process.title, process.group, process.rank)
        if (usage := process_usage(process)) is not None:
            seconds.append((labels, usage[0]))
            resident.append((labels, usage[1]))
    yield _counter(families.CPU_TIME, seconds)
    yield _gauge(families.MEMORY, resident)


def process_usage(process: Process) -> tuple[float, float] | None:
    """Return CPU seconds and resident bytes of a process; None when it has gone."""
    return process.usage or procfs.usage(process.pid)


def _numbered(values: dict[int, int]) -> list[Row]:
    return [((str(number),), float(value)) for number, value in sorted(values.items())]


def _counter(family: Family, rows: Iterable[Row]) -> Metric:
    metric = CounterMetricFamily(family.name, family.words, labels=family.labels)
    for labels, value in rows:
        metric.add_metric(labels, value)
    return metric


def _gauge(family: Family, rows: Iterable[Row]) -> Metric:
    metric = GaugeMetricFamily(family.name, family.words, labels=family.labels)
    for labels, value in rows:
        metric.add_metric(labels, value)
    return metric


def _histogram(family: Family, ledger: Ledger) -> Metric:
    metric = HistogramMetricFamily(family.name, family.words, labels=family.labels)
    found = [h for h in ledger.histograms if h.stem == family.stem]
    for histogram in found:
        below, buckets = 0, []
        for bound, number in zip((*family.bounds, float("inf")), histogram.buckets, strict=True):
            below += number
            buckets.append(("+Inf" if bound == float("inf") else repr(bound), float(below)))
        metric.add_metric(histogram.labels, buckets, histogram.total)
    if not found and not family.labels:
        empty = [*(repr(bound) for bound in family.bounds), "+Inf"]
        metric.add_metric((), [(bound, 0.0) for bound in empty], 0.0)
    return metric

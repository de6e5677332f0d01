"""Reads /metrics of a running server into samples, and says what happened between two of them.

Knows names of figures (gateway/telemetry/families.py), nothing of how they look.
"""

import http.client
import ssl
import time
import urllib.error
import urllib.request
from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise

from prometheus_client.parser import text_string_to_metric_families

from gateway.client_key import HINT
from gateway.telemetry.families import Family

TIMEOUT_S = 5.0
# Rates look back so far, quantiles so far: a quantile of a handful of requests says little.
RATE_SECONDS, QUANTILE_SECONDS = 5.0, 60.0
KEPT_SAMPLES = 300

Labels = dict[str, str]


class Unreachable(Exception):
    """No figures came. The message says why."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One scrape. series: name of the figure -> its labels and values."""

    at_s: float = 0.0
    series: dict[str, list[tuple[Labels, float]]] = field(default_factory=dict)

    def total(self, family: Family, suffix: str = "", **labels: str) -> float:
        """Add up the values whose labels are these, whatever the others are."""
        rows = self.rows(family, suffix)
        return sum(value for found, value in rows if labels.items() <= found.items())

    def rows(self, family: Family, suffix: str = "") -> list[tuple[Labels, float]]:
        """Return every value of a family, with its labels."""
        return self.series.get(family.name + suffix, [])

    def buckets(self, family: Family) -> dict[float, float]:
        """Return a histogram's observations by upper bound, each with all below it."""
        found: dict[float, float] = {}
        for labels, value in self.rows(family, "_bucket"):
            bound = float(labels["le"])
            found[bound] = found.get(bound, 0.0) + value
        return found


@dataclass(frozen=True, slots=True)
class Span:
    """What happened between two samples. A counter that shrank has begun anew at 0."""

    before: Sample
    now: Sample

    def rate(self, family: Family, suffix: str = "_total", **labels: str) -> float:
        """Return how much a counter grew a second."""
        seconds = self.now.at_s - self.before.at_s
        return self.growth(family, suffix, **labels) / seconds if seconds > 0 else 0.0

    def growth(self, family: Family, suffix: str = "_total", **labels: str) -> float:
        """Return how much a counter grew."""
        now = self.now.total(family, suffix, **labels)
        before = self.before.total(family, suffix, **labels)
        return now - before if now >= before else now

    def quantile(self, family: Family, share: float) -> float | None:
        """Return what `share` of a histogram's observations were below; None if there were none."""
        before = self.before.buckets(family)
        buckets = sorted(self.now.buckets(family).items())
        grown = [(bound, max(0.0, value - before.get(bound, 0.0))) for bound, value in buckets]
        if not grown or not grown[-1][1]:
            return None
        wanted, low, below = share * grown[-1][1], 0.0, 0.0
        for bound, count in grown:
            if count >= wanted:
                if bound == float("inf"):
                    return low
                return low + (bound - low) * (wanted - below) / (count - below)
            low, below = bound, count
        return low


class History:
    """The samples of the last minutes. Nothing can be asked of it before the first add()."""

    def __init__(self, *, is_whole: bool = False) -> None:
        """is_whole: quantiles are of everything since the server's start."""
        self._samples: deque[Sample] = deque(maxlen=KEPT_SAMPLES)
        self._is_whole = is_whole

    def add(self, sample: Sample) -> None:
        """Take the next sample."""
        self._samples.append(sample)

    @property
    def now(self) -> Sample:
        return self._samples[-1]

    @property
    def recent(self) -> Span:
        """What rates are taken of."""
        return Span(self._back(RATE_SECONDS), self.now)

    @property
    def lately(self) -> Span:
        """What quantiles are taken of."""
        return Span(Sample() if self._is_whole else self._back(QUANTILE_SECONDS), self.now)

    def steps(self) -> list[Span]:
        """The time between each two samples, oldest first."""
        samples = list(self._samples)
        return [Span(*pair) for pair in pairwise(samples)]

    def _back(self, seconds: float) -> Sample:
        """The latest sample that is so old, or the oldest."""
        old = [sample for sample in self._samples if sample.at_s <= self.now.at_s - seconds]
        return old[-1] if old else self._samples[0]


def scrape(url: str, api_key: str = "") -> Sample:
    """Return a server's figures now. Raises Unreachable."""
    try:
        request = urllib.request.Request(f"{url.rstrip('/')}/metrics")
        if api_key:  # for this server, not for where it may redirect to
            request.add_unredirected_header("Authorization", f"Bearer {api_key}")
        # Not by HTTP_PROXY, which would be shown the key and has another 127.0.0.1.
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(request, timeout=TIMEOUT_S) as answer:
            text = answer.read().decode()
    except urllib.error.HTTPError as error:
        hint = f"; it wants a key of scope admin; {HINT}" if error.code in (401, 403) else ""
        raise Unreachable(f"{url} answers {error.code} {error.reason}{hint}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unreachable(f"{url} cannot be reached: {_reason(error)}") from error
    series: dict[str, list[tuple[Labels, float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            series.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
    return Sample(time.monotonic(), series)


def _reason(error: Exception) -> object:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"{reason.verify_message}; SSL_CERT_FILE=its.pem trusts a certificate of one's own"
    return reason

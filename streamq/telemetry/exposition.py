"""Renders a snapshot as Prometheus text, using prometheus_client (the extra `metrics`).

Owns the mapping from keys to metric families. Renders on a scrape; must not run on a path that counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import Any, TypeVar

from streamq.errors import UsageError
from streamq.telemetry.catalogue import METRICS, Metric
from streamq.telemetry.counters import Key, Snapshot

T = TypeVar("T")


def render(snapshot: Snapshot, accept: str = "") -> tuple[str, bytes]:
    """Return the content type and the text; OpenMetrics if the scraper accepts it. Raise UsageError if the
    extra is missing."""
    library()
    from prometheus_client import exposition  # noqa: PLC0415 - an extra

    generate, content_type = exposition.choose_encoder(accept)
    text: bytes = generate(_Collector(snapshot))
    return content_type, text


def library() -> object:
    """Return prometheus_client. Raise UsageError, with the command that installs it, if it is missing."""
    try:
        import prometheus_client  # noqa: PLC0415 - an extra
    except ImportError:
        raise UsageError(
            "metrics are not available: prometheus_client is not installed. "
            "Run pip install 'streamq[metrics]'."
        ) from None
    return prometheus_client


class _Collector:
    """The registry interface of prometheus_client."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Any]:
        numbers = _by_name(self._snapshot.counters | self._snapshot.gauges)
        histograms = _by_name(self._snapshot.histograms)
        for name, metric in METRICS.items():
            if name in histograms:
                yield _histogram_family(metric, sorted(histograms[name].items()))
            elif name in numbers:
                yield _number_family(metric, sorted(numbers[name].items()))


def _by_name(values: dict[Key, T]) -> dict[str, dict[Key, T]]:
    """Return the values by metric name, then by labels."""
    found: dict[str, dict[Key, T]] = {}
    for (name, *labels), value in values.items():
        found.setdefault(name, {})[tuple(labels)] = value
    return found


def _histogram_family(metric: Metric, values: list[tuple[Key, tuple[list[int], float]]]) -> object:
    from prometheus_client import core  # noqa: PLC0415 - an extra

    family = core.HistogramMetricFamily(metric.name, metric.about, labels=metric.labels)
    bounds = [*(repr(float(bound)) for bound in metric.bounds), "+Inf"]
    for labels, (counts, total) in values:
        family.add_metric(labels, list(zip(bounds, accumulate(counts), strict=True)), total)
    return family


def _number_family(metric: Metric, values: list[tuple[Key, float]]) -> object:
    from prometheus_client import core  # noqa: PLC0415 - an extra

    make = core.CounterMetricFamily if metric.kind == "counter" else core.GaugeMetricFamily
    family = make(metric.name, metric.about, labels=metric.labels)
    for labels, value in values:
        family.add_metric(labels, value)
    return family

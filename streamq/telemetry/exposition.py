"""A snapshot as the text that Prometheus scrapes, by prometheus_client (the extra `metrics`).

Owns the way from keys to metric families. Rendering happens where it is scraped, never where it is counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from streamq.errors import UsageError
from streamq.telemetry.catalogue import METRICS, Metric
from streamq.telemetry.counters import Key, Snapshot


def render(snapshot: Snapshot, accept: str = "") -> tuple[str, bytes]:
    """Content type and text; OpenMetrics where the scraper asks for it. UsageError without the extra."""
    library()
    from prometheus_client import exposition  # noqa: PLC0415 - an extra

    generate, content_type = exposition.choose_encoder(accept)
    text: bytes = generate(_Collector(snapshot))
    return content_type, text


def library() -> object:
    """prometheus_client; UsageError says how to get it."""
    try:
        import prometheus_client  # noqa: PLC0415 - an extra
    except ImportError:
        raise UsageError("metrics need prometheus_client: pip install 'streamq[metrics]'") from None
    return prometheus_client


class _Collector:
    """What prometheus_client asks of a registry."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Any]:
        values: dict[str, list[tuple[Key, Any]]] = {}
        s = self._snapshot
        for part in (s.counters, s.gauges, s.histograms):
            for (name, *labels), value in part.items():
                values.setdefault(name, []).append((tuple(labels), value))
        for name, metric in METRICS.items():
            if name in values:
                yield _family(metric, sorted(values[name]))


def _family(metric: Metric, values: list[tuple[Key, Any]]) -> object:
    from prometheus_client import core  # noqa: PLC0415 - an extra

    if metric.kind == "histogram":
        histogram = core.HistogramMetricFamily(metric.name, metric.about, labels=metric.labels)
        bounds = [*(repr(float(bound)) for bound in metric.bounds), "+Inf"]
        for labels, (counts, total) in values:
            histogram.add_metric(labels, list(zip(bounds, accumulate(counts), strict=True)), total)
        return histogram
    make = core.CounterMetricFamily if metric.kind == "counter" else core.GaugeMetricFamily
    family = make(metric.name, metric.about, labels=metric.labels)
    for labels, value in values:
        family.add_metric(labels, value)
    return family

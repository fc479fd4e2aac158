"""Maps the sample names in a scrape or a query to the metrics of the catalogue."""

from __future__ import annotations

from streamq.telemetry.catalogue import METRICS


def base(name: str) -> str:
    """Return the metric of a sample: a histogram's samples are named _bucket, _sum and _count."""
    short = name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")
    return short if short in METRICS and METRICS[short].kind == "histogram" else name


def exported(name: str) -> bool:
    """Return whether a query may use this sample."""
    return base(name) in METRICS

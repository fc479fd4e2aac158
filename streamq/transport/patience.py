"""How long and how often a call is tried again while the server is away.

Owns the policy, the same for sync and async calls. tenacity is loaded when it is first needed: most
programs never see an outage.
"""

from __future__ import annotations

from typing import Any

from streamq.errors import RedisUnavailable


def policy(seconds: float) -> dict[str, Any]:
    """Arguments for Retrying and AsyncRetrying: again after RedisUnavailable, at random growing intervals."""
    import tenacity  # noqa: PLC0415

    return {
        "retry": tenacity.retry_if_exception_type(RedisUnavailable),
        "wait": tenacity.wait_random_exponential(multiplier=0.05, max=1),
        "stop": tenacity.stop_after_delay(seconds),
        "reraise": True,
    }

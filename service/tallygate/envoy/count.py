"""Counting decisions: each becomes a few Prometheus increments.

Label children are looked up once per combination; reasons, plan keys and meters bound how many there are.
"""

from functools import lru_cache

from tallygate.decision.decision import Allow, Decision, Reason
from tallygate.insights.shadow import PASSED, ShadowTally
from tallygate.licenses.last_used import LastUsed
from tallygate.metrics import Metrics

_COMBINATIONS = 4096


class Counting:
    """Tells of every decision: the metrics, and for allowed ones the shadow's tally and when a token was used."""

    def __init__(self, metrics: Metrics, shadows: ShadowTally, last_used: LastUsed) -> None:
        """Count into these."""
        self._checks = lru_cache(_COMBINATIONS)(metrics.checks.labels)
        self._units = lru_cache(_COMBINATIONS)(metrics.units.labels)
        self._shadow_decisions = lru_cache(_COMBINATIONS)(metrics.shadow_decisions.labels)
        self._shadows = shadows
        self._last_used = last_used
        self._degraded = metrics.degraded_decisions.labels
        self._duration = metrics.check_duration

    def __call__(self, decision: Decision, seconds: float) -> None:
        """Count one decision that took `seconds`."""
        self._duration.observe(seconds)
        plan = "" if decision.phase is None else decision.phase.grant.plan_key
        is_allowed = isinstance(decision, Allow)
        self._checks("allow" if is_allowed else "deny", decision.reason.value, plan).inc()
        if decision.degraded is not None:
            self._degraded(decision.degraded).inc()
        if isinstance(decision, Allow) and not decision.is_repeat:
            self._allowed(decision, plan)

    def _allowed(self, decision: Allow, plan: str) -> None:
        self._last_used.note(decision.license.token)
        outcome = "overage" if decision.reason is Reason.OVERAGE else "allowed"
        for meter, units in decision.route.costs:
            self._units(plan, meter, outcome).inc(units)
        shadow = decision.license.terms.shadow
        if shadow is not None:
            refused_for = decision.would_refuse.value if decision.would_refuse else None
            self._shadow_decisions(plan, shadow.plan, refused_for or PASSED).inc()
            self._shadows.count(shadow.plan, decision.license.subscription, refused_for)

"""What is in shadow while requests are decided: a version tried beside the one in force, and limits of that one.

Owns whose opinion it is that a limit would have refused. Does not own how limits in shadow are counted (`limits`),
nor what becomes of opinions (`insights`). Pure, and worked out once for a route under a license: where nothing is
in shadow there are no `Shadows`, and a request costs nothing more.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tallygate.decision.decision import Opinion, Reason
from tallygate.decision.rules import refuse_route, shadow_refused_because
from tallygate.licenses.license import License, Phase, limit_ref
from tallygate.licenses.routes import RouteRule
from tallygate.limits.limiter import LimitState


@dataclass(frozen=True, slots=True)
class Shadows:
    """What looks at the requests of a route.

    `tried` is the version that is tried, None when there is none, and `route_refusal` why it would refuse the route
    whatever its limits say. `own` are the limits in shadow of the version in force: by their names, how they are
    called in the report.
    """

    tried: str | None
    route_refusal: Reason | None
    own: Mapping[str, str]

    def opinions(self, states: tuple[LimitState, ...]) -> tuple[Opinion, ...]:
        """Return what each has to say of a request, by where the limits stand: the version that is tried first."""
        own = [
            Opinion(self.own[state.limit.name], shadow_refused_because(state))
            for state in states
            if state.limit.name in self.own
        ]
        if self.tried is None:
            return tuple(own)
        tried = (shadow_refused_because(state) for state in states if state.limit.name not in self.own)
        refusal = self.route_refusal or next(filter(None, tried), None)
        return (Opinion(self.tried, refusal), *own)


def shadows_of(token_license: License, phase: Phase, route: RouteRule) -> Shadows | None:
    """Return what is in shadow on a route under a license, None when nothing is."""
    meters, plan, tried = dict(route.costs), phase.grant.plan, phase.shadow
    own = {
        limit.name: limit_ref(plan, limit.name)
        for limit in phase.grant.limits
        if limit.is_shadow and limit.meter in meters
    }
    if tried is None:
        return Shadows(None, None, own) if own else None
    refusal = refuse_route(token_license, tried, route)
    return Shadows(tried.plan, None if refusal is None else refusal.reason, own)

"""The dynamic metadata of an answer: what access logs can name of a decision, as pieces of a `google.protobuf.Struct`.

Fields of a Struct are entries of a map, so pieces written one after the other are one Struct. A text that is empty is
left out.
"""

from functools import lru_cache

from tallygate.decision.decision import Decision, Reason
from tallygate.envoy.messages import struct
from tallygate.envoy.wire import Blank
from tallygate.licenses.license import License, Phase
from tallygate.licenses.routes import RouteRule

_ROUTES = 4096


def _text(name: str) -> Blank:
    return Blank(lambda text: struct({name: text}))


_REASONS = {reason: struct({"reason": reason.value}).SerializeToString() for reason in Reason}
_WOULD_REFUSE = {reason: struct({"would_refuse": reason.value}).SerializeToString() for reason in Reason}
_DECISION_ID, _CUSTOMER, _SUBSCRIPTION, _PLAN, _FAMILY, _RECEIPT = map(
    _text, ("decision_id", "customer", "subscription", "plan", "family", "receipt")
)


def of_decision(decision: Decision) -> bytes:
    """Return `reason` and `decision_id`."""
    return _REASONS[decision.reason] + _DECISION_ID.fill(decision.decision_id)


def of_holder(license_: License, phase: Phase) -> bytes:
    """Return `customer`, `subscription`, `plan` and `family`."""
    return (
        _CUSTOMER.fill(license_.customer)
        + _SUBSCRIPTION.fill(license_.subscription)
        + _PLAN.fill(phase.grant.plan)
        + _FAMILY.fill(license_.family)
    )


def of_route(route: RouteRule) -> bytes:
    """Return `route`, the rule's text, and `meters`: the units of each that the request cost."""
    return _route(route.text, route.costs)


@lru_cache(_ROUTES)
def _route(text: str, costs: tuple[tuple[str, int], ...]) -> bytes:
    return struct({"route": text}, meters=dict(costs)).SerializeToString()


def of_receipt(receipt: str) -> bytes:
    """Return `receipt`: what the request's outcome is told under."""
    return _RECEIPT.fill(receipt)


def of_shadow(would_refuse: Reason | None) -> bytes:
    """Return `would_refuse`, nothing where nothing in shadow would."""
    return b"" if would_refuse is None else _WOULD_REFUSE[would_refuse]

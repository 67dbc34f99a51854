"""Percentage roll-outs: who has a feature that only some customers have yet.

Owns the hash that decides, which must never change: it would take the feature from people who have it.
Pure, and the same in every process: no list of the chosen is kept anywhere.
"""

from collections.abc import Mapping
from decimal import Decimal
from hashlib import sha256

from tallygate.licenses.license import Feature
from tallygate.plans.document import PlanFeature, Rollout

_HUNDREDTHS = 10_000


def is_in_rollout(customer: str, feature: str, percent: Decimal) -> bool:
    """Tell whether `customer` (its id) is among the `percent` (0 to 100, in hundredths) who have `feature`.

    Raising the percentage takes nobody out. Each feature chooses anew, so that not always the same
    customers come first.
    """
    digest = sha256(f"{feature}\0{customer}".encode()).digest()
    return int.from_bytes(digest[:8]) % _HUNDREDTHS < percent * 100


def features_of(features: Mapping[str, PlanFeature], customer: str) -> dict[str, Feature]:
    """Return what a plan's features are for `customer`: each roll-out is true or false."""
    return {
        key: is_in_rollout(customer, key, value.percent) if isinstance(value, Rollout) else value
        for key, value in features.items()
    }

"""A catalogue with one of everything the control plane has to handle: trials, grace, credits, billing quotas."""

from tallygate.plans.document import Catalogue
from tallygate.plans.parse import parse

_OFFERS = """
routes:
  - {match: "GET /v1/audit", feature: audit_trail}
  - {match: "* /v1/**"}
plans:
  - key: free
    name: Free
    scopes: [things.read]
    limits: [{name: monthly, quota: 100, period: billing}]
  - key: pro
    name: PRO_NAME
    price: {amount: "49.00", currency: USD, every: month}
    grace: {days: 7, limits: full}
    scopes: [things.read, things.write]
    features: {reports: true, seats: 5, tier: gold, beta: {rollout: 10}}
    limits:
      - {name: burst, rate: 50/s, burst: 100}
      - {name: monthly, quota: 1000, period: billing}
      - {name: prepaid, credits: 10}
  - key: trial
    name: Trial
    trial: {days: 14, at_end: downgrade, to: free}
    scopes: [things.read, things.write]
    features: {audit_trail: true}
    limits: [{name: monthly, quota: 500, period: billing}]
"""


def offers(pro_name: str = "Pro") -> Catalogue:
    """Return the catalogue of `free`, `pro` and `trial`; another name of `pro` makes another version of it."""
    return parse(_OFFERS.replace("PRO_NAME", pro_name), "offers.yaml")

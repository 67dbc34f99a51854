"""Reading the meters of a file, and asking of every other part that it names one of them.

Owns what a tree of meters may look like. A file that declares none may use any name. What a meter's units
count in is `meters`; what becomes of them after the response is read by `parse_policies`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tallygate.licenses.routes import DEFAULT_METER, ActualSource, MeterPolicy, RouteRule
from tallygate.plans.fields import NAME, NAME_MEND, Field, Record
from tallygate.plans.meters import Meters, Policies, ancestors, expand_routes
from tallygate.plans.parse_policies import POLICY_KEYS, read_policy
from tallygate.plans.problems import did_you_mean, shown

MAXIMUM_METERS = 100


@dataclass(frozen=True, slots=True)
class KnownMeters:
    """What the file says of meters: all that are `declared`, and those that routes `count`; None: not known."""

    declared: frozenset[str] | None = None
    counted: frozenset[str] | None = None

    def check_declared(self, meter: str, field: Field) -> bool:
        """Tell whether the meter may be used, after noting at `field` that it may not."""
        if self.declared is None or meter in self.declared:
            return True
        field.wrong(f"the meter {shown(meter)} is not declared", did_you_mean(meter, self.declared))
        return False

    def check_counted(self, meter: str, field: Field) -> None:
        """Note at `field` a meter of which no route costs any."""
        if self.check_declared(meter, field) and self.counted is not None and meter not in self.counted:
            mend = did_you_mean(meter, self.counted) or "give a route a cost in it"
            field.wrong(f"no route costs any {shown(meter)}, so this limit would never count", mend)


@dataclass(frozen=True, slots=True)
class ReadMeters:
    """The tree of meters, the policies of those that have one, and where each of these is written."""

    tree: Meters
    policies: Policies
    records: Mapping[str, Record]


NONE_DECLARED = ReadMeters({}, {}, {})


def read_meters(field: Field) -> ReadMeters:
    """Return the meters that are declared: the parent of each, None for one that has none, and their policies."""
    named = field.named()
    if len(named) > MAXIMUM_METERS:
        field.wrong(f"has {len(named)} meters", f"at most {MAXIMUM_METERS}: each is a label of the metrics")
    parents: dict[str, str | None] = {}
    places: dict[str, Field] = {}
    policies: dict[str, MeterPolicy] = {}
    records: dict[str, Record] = {}
    for meter, item in list(named.items())[:MAXIMUM_METERS]:
        if not NAME.fullmatch(meter):
            item.wrong(f"{shown(meter)} is not a meter", NAME_MEND)
        record = item.record(("parent", *POLICY_KEYS))
        parent_field = record.get("parent")
        parents[meter] = parent_field.text() if parent_field else None
        places[meter] = parent_field or item
        policy = read_policy(meter, record)
        if policy is not None:
            policies[meter], records[meter] = policy, record
    return ReadMeters(_as_tree(parents, places), policies, records)


def known_meters(meters: ReadMeters | None, rules: Iterable[RouteRule] | None) -> KnownMeters:
    """Return what is known: `meters` None where a file declares none, `rules` None where not all can be read."""
    counted = None if rules is None else _counted(rules, meters)
    return KnownMeters(None if meters is None else frozenset((*meters.tree, DEFAULT_METER)), counted)


def _counted(rules: Iterable[RouteRule], meters: ReadMeters | None) -> frozenset[str]:
    """Return the meters in which some request counts: at once, after its response, or once somebody reports it."""
    tree, policies = (meters or NONE_DECLARED).tree, (meters or NONE_DECLARED).policies
    counted: set[str] = set()
    for rule in expand_routes(rules, tree, policies):
        counted.update(meter for meter, units in rule.costs if units > 0)
        counted.update(policy.meter for policy in rule.policies if policy.actual is not None)
    counted.update(meter for meter, policy in policies.items() if policy.actual is ActualSource.REPORTED)
    return frozenset(parent for meter in counted for parent in (meter, *ancestors(meter, tree)))


def _as_tree(parents: dict[str, str | None], places: Mapping[str, Field]) -> dict[str, str | None]:
    """Return the parents, without those that are not declared or would close a circle, which are noted."""
    tree = dict.fromkeys(parents, None)
    known = {*parents, DEFAULT_METER}
    for meter, parent in parents.items():
        if parent is None:
            continue
        if parent not in known:
            places[meter].wrong(f"the meter {shown(parent)} is not declared", did_you_mean(parent, known))
        elif meter in (parent, *ancestors(parent, tree)):
            places[meter].wrong(f"{shown(meter)} would count in itself", "meters form a tree: remove one parent")
        else:
            tree[meter] = parent
    return tree

"""What the parts of a plan file ask of each other: plans of routes, routes of plans, plans of plans.

Owns the mistakes that no part shows by itself. Each is noted where it is mended.
"""

from collections.abc import Iterable

from tallygate.licenses.routes import EVERYTHING, ActualSource, RouteRule
from tallygate.limits.leases import leased_burst
from tallygate.limits.limit import EXACT_INTEGER, LimitKind, OnExceed
from tallygate.plans.document import Exactness, LimitMode, Plan, PlanLimit
from tallygate.plans.fields import Field, Record
from tallygate.plans.meters import Meters, ancestors, expand_costs, expand_routes
from tallygate.plans.parse_meters import ReadMeters
from tallygate.plans.parse_plan import ReadPlan
from tallygate.plans.parse_routes import ReadRoute
from tallygate.plans.problems import did_you_mean, shown

_Costliest = dict[str, tuple[int, str]]


def check_grants(routes: Iterable[ReadRoute], plans: Iterable[ReadPlan]) -> None:
    """Note every scope and feature that a route asks for and no plan grants."""
    scopes = {scope for read in plans for scope in read.plan.scopes}
    features = {key for read in plans for key in read.plan.features if _has(read.plan, key)}
    for record, rule in routes:
        for name, needed, granted in (("scope", rule.scope, scopes), ("feature", rule.feature, features)):
            if needed is not None and needed not in granted:
                mend = did_you_mean(needed, granted) or f"add it to the {name}s of a plan"
                record.fields[name].wrong(f"no plan grants {shown(needed)}", mend)


def check_trials(plans: Iterable[ReadPlan]) -> None:
    """Note every trial that downgrades to its own plan, or to one the file does not have."""
    keys = {read.plan.key for read in plans} - {""}
    for read in plans:
        if read.downgrade_to is None or read.plan.trial is None or read.plan.trial.to is None:
            continue
        to, others = read.plan.trial.to, keys - {read.plan.key}
        if to == read.plan.key:
            read.downgrade_to.wrong("a trial cannot downgrade to its own plan", "name a smaller one")
        elif to not in others:
            read.downgrade_to.wrong(f"no plan {shown(to)} in this file", did_you_mean(to, others) or "add it")


def check_costs(routes: Iterable[ReadRoute], meters: Meters) -> None:
    """Note every route whose costs, counted up the tree of meters, are too large to be counted exactly."""
    for record, rule in routes:
        for meter, units in expand_costs(rule.costs, meters):
            if units >= EXACT_INTEGER:
                problem = f"{units} {meter}, those of its children counted in, are out of bounds"
                record.fields["cost"].wrong(problem, f"at most {EXACT_INTEGER - 1}")


def check_policies(rules: tuple[RouteRule, ...] | None, meters: ReadMeters, *, are_all_read: bool) -> None:
    """Note every policy that no request could meet, and every true number that two meters would give.

    `rules` None: the file says nothing of routes.
    """
    if rules is None:
        for record in meters.records.values():
            record.field.wrong("has a policy, and the file has no routes", "write it where the routes are")
        return
    expanded = expand_routes(rules or (EVERYTHING,), meters.tree)
    costed = {meter for rule in expanded for meter, _ in rule.costs}
    for meter, policy in meters.policies.items():
        record = meters.records[meter]
        if are_all_read and meter not in costed and policy.actual is not ActualSource.REPORTED:
            mend = "give a route a cost in it; 0 charges only what is known afterwards"
            record.field.wrong(f"no route costs any {shown(meter)}, so nothing would become of it", mend)
        if policy.actual is not None:
            _check_follows(record.fields["actual"], meter, rules, meters.tree)


def check_reach(routes: Iterable[ReadRoute], plans: Iterable[ReadPlan], meters: Meters) -> None:
    """Note every limit that can never let one request of a route pass, though the plan grants the route."""
    expanded = [(rule, expand_costs(rule.costs, meters)) for _, rule in routes]
    for read in plans:
        costliest: _Costliest = {}
        for rule, costs in expanded:
            if _grants(read.plan, rule):
                for meter, units in costs:
                    costliest[meter] = max(costliest.get(meter, (0, "")), (units, rule.text))
        for record, limit in read.limits:
            units, route = costliest.get(limit.meter, (0, ""))
            _check_limit(record, limit, units, route)


def _check_follows(field: Field, meter: str, rules: Iterable[RouteRule], meters: Meters) -> None:
    """Note the true number of a meter in which a child counts: what becomes of the child becomes of it as well."""
    for rule in rules:
        for child, _ in rule.costs:
            if meter in ancestors(child, meters):
                problem = (
                    f"{shown(rule.text)} costs {child}, which counts in {meter}: its true number follows from that"
                )
                field.wrong(problem, f"write it at {child}")
                return


def _check_limit(record: Record, limit: PlanLimit, units: int, route: str) -> None:
    """Note a limit that `units` at once can never pass. One of 0, or in shadow, is meant so."""
    at_once = _at_once(record, limit)
    if at_once is None or limit.mode is LimitMode.SHADOW:
        return
    most, field, mend = at_once
    if 0 < most < units:
        field.wrong(f"{shown(route)} costs {units} {limit.meter} and could never pass", mend.format(units))


def _at_once(record: Record, limit: PlanLimit) -> tuple[int, Field, str] | None:
    """Return the most units one request can take, where that is written, and the mend; None without a bound."""
    if limit.kind is LimitKind.RATE:
        field = record.get("burst") or record.fields["rate"]
        counted = leased_burst(limit.amount, limit.window_us, limit.burst)
        if limit.exactness is Exactness.LEASED and counted is not None:
            mend = f"leased, it lets {counted} through at once: write a larger burst, or exactness: exact"
            return counted, field, mend
        return limit.burst, field, "write a burst of at least {}"
    if limit.kind is not LimitKind.QUOTA:  # credits can be granted
        return None
    if limit.on_exceed is OnExceed.OVERAGE:
        if limit.allow_until is None:
            return None
        return limit.allow_until.ceiling(limit.amount), record.fields["allow_until"], "allow at least {} units"
    return limit.amount, record.fields["quota"], "write at least {}, or 0 to grant none"


def _grants(plan: Plan, rule: RouteRule) -> bool:
    has_scope = rule.scope is None or rule.scope in plan.scopes
    return has_scope and (rule.feature is None or _has(plan, rule.feature))


def _has(plan: Plan, feature: str) -> bool:
    return plan.features.get(feature, False) is not False

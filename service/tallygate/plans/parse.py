"""Reading a plan file: text in, a Catalogue out, or every mistake at once.

Owns the file as a whole and the order in which its parts are read. Pure: opens no file.
"""

from tallygate.plans.coherence import check_costs, check_grants, check_policies, check_reach, check_trials
from tallygate.plans.document import Catalogue
from tallygate.plans.fields import Field
from tallygate.plans.parse_meters import NONE_DECLARED, KnownMeters, known_meters, read_meters
from tallygate.plans.parse_plan import ReadPlan, read_plan
from tallygate.plans.parse_routes import read_routes
from tallygate.plans.problems import InvalidCatalogueError, Problem, Problems, shown
from tallygate.plans.yaml_source import compose

MAXIMUM_PLANS = 200
__all__ = ["InvalidCatalogueError", "Problem", "parse"]


def parse(text: str | bytes, source: str) -> Catalogue:
    """Return what the plan file says; `source` is its name in messages.

    Bytes must be UTF-8. Raises InvalidCatalogueError with all problems of the file.
    """
    problems = Problems(source)
    root = compose(text, problems)
    catalogue = Catalogue() if root is None else _read(Field(root, "", 1, problems))
    problems.raise_if_any()
    return catalogue


def _read(field: Field) -> Catalogue:
    record = field.record(("meters", "routes", "plans"))
    meters_field, routes_field, plans_field = record.get("meters"), record.get("routes"), record.get("plans")
    if routes_field is None and plans_field is None:
        field.wrong("has neither plans nor routes", "begin with plans:")
    declared = read_meters(meters_field) if meters_field else None
    meters = declared or NONE_DECLARED
    read = read_routes(routes_field, known_meters(declared, None)) if routes_field else []
    routes = [route for route in read if route is not None]
    rules = tuple(rule for _, rule in routes)
    is_complete = bool(read) and len(routes) == len(read)
    plans = _read_plans(plans_field, known_meters(declared, rules if is_complete else None)) if plans_field else []
    check_costs(routes, meters.tree)
    check_policies(None if routes_field is None else rules, meters, are_all_read=len(routes) == len(read))
    if plans:
        check_grants(routes, plans)
        check_trials(plans)
        check_reach(routes, plans, meters.tree)
    sold = tuple(read.plan for read in plans)
    return Catalogue(sold, rules, meters.tree, routes_field is not None, meters.policies)


def _read_plans(field: Field, meters: KnownMeters) -> list[ReadPlan]:
    items = field.items()
    if len(items) > MAXIMUM_PLANS:
        field.wrong(f"has {len(items)} plans", f"at most {MAXIMUM_PLANS}: each is a label of the metrics")
    plans: list[ReadPlan] = []
    keys: set[str] = set()
    for item in items[:MAXIMUM_PLANS]:
        read = read_plan(item, meters)
        if read.plan.key and read.plan.key in keys:
            item.wrong(f"a second plan with the key {shown(read.plan.key)}", "a key is its own within the file")
        keys.add(read.plan.key)
        plans.append(read)
    return plans

"""Laws of meters in a tree."""

from hypothesis import given
from hypothesis import strategies as st

from tallygate.plans.meters import Costs, Meters, ancestors, expand_costs
from tallygate.plans.parse import parse

METERS = [f"m{number}" for number in range(8)]


@st.composite
def trees(draw: st.DrawFn) -> Meters:
    """Return a tree, or several: each meter's parent is none or an earlier one, declared in any order."""
    parents = {
        meter: draw(st.sampled_from([None, *METERS[:number]])) if number else None
        for number, meter in enumerate(METERS)
    }
    return {meter: parents[meter] for meter in draw(st.permutations(METERS))}


costs = st.dictionaries(st.sampled_from([*METERS, "requests"]), st.integers(0, 1000), min_size=1).map(
    lambda units: tuple(sorted(units.items()))
)


@given(costs, trees())
def test_a_meter_counts_itself_and_all_below_it(written: Costs, tree: Meters) -> None:
    """What a meter is charged is its own cost and that of each of its descendants, once."""
    expanded = dict(expand_costs(written, tree))
    for meter in [*METERS, "requests"]:
        below = sum(units for other, units in written if meter in (other, *ancestors(other, tree)))
        assert expanded.get(meter, 0) == below


@given(costs, trees())
def test_every_meter_of_a_cost_and_its_ancestors_are_looked_at(written: Costs, tree: Meters) -> None:
    """No limit up the tree is passed by, not even by a cost of 0, and no other is asked."""
    looked_at = {counted for meter, _ in written for counted in (meter, *ancestors(meter, tree))}
    assert [meter for meter, _ in expand_costs(written, tree)] == sorted(looked_at)


@given(costs)
def test_without_a_tree_costs_are_as_written(written: Costs) -> None:
    """A file that declares no meters is charged what it says."""
    assert expand_costs(written, {}) == expand_costs(written, dict.fromkeys(METERS)) == written


@given(trees())
def test_every_tree_is_accepted_in_any_order(tree: Meters) -> None:
    """A parent may be declared below its child; what is accepted is what was written."""
    lines = [f"  {meter}: " + (f"{{parent: {parent}}}" if parent else "{}") for meter, parent in tree.items()]
    assert parse("routes: []\nmeters:\n" + "\n".join(lines), "f").meters == tree

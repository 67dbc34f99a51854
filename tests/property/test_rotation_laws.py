"""Laws of tokens that come and go, and of processes that begin: neither moves a counter (promises 4 and 8)."""

import asyncio
from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from support.pipelines import FORMAT, LICENSE, PEPPER, Desk, credits_of, request
from support.terms import with_limits

from tallygate.decision.decision import Allow
from tallygate.licenses.cache import LicenseCache
from tallygate.limits.limit import CountedPer
from tallygate.tokens.format import Environment
from tallygate.tokens.mint import mint

FAMILIES = ("fam_1", "fam_2")
AMOUNT = 3
ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 30)),
        st.tuples(st.just("rotate"), st.sampled_from(FAMILIES)),
        st.tuples(st.just("begin"), st.none()),
    ),
    min_size=10,
    max_size=40,
)


class Business:
    """Two families of tokens under one limit: any token ever issued works, and each process may be a new one."""

    def __init__(self, per: CountedPer) -> None:
        """Begin with a token for each family."""
        self.desk = Desk()
        self.limit = credits_of("prepaid", AMOUNT, per=per)
        self.tokens: list[tuple[str, str]] = []
        for family in FAMILIES:
            self.rotate(family)

    def rotate(self, family: str) -> None:
        """Add a token to a family."""
        token, terms = mint(FORMAT, Environment.LIVE), with_limits(LICENSE.terms, (self.limit,))
        issued = replace(LICENSE, family=family, token=f"tok_{len(self.tokens)}", terms=terms)
        self.desk.cache.apply(self.desk.store.put(PEPPER.digest(token).value, issued))
        self.tokens.append((token.text, family))

    def begin(self) -> None:
        """Go on in a process that knows nothing yet, over the same counters."""
        self.desk.cache = LicenseCache(self.desk.store, self.desk.clock, jitter=lambda: 0.0)
        self.desk.pipeline = self.desk.pipeline_over(self.desk.counters)

    async def ask(self, number: int) -> tuple[str, bool]:
        """Ask with one of the tokens; return its family, and whether it was allowed."""
        token, family = self.tokens[number % len(self.tokens)]
        return family, isinstance(await self.desk.check(request(token=token)), Allow)


@given(per=st.sampled_from(CountedPer), acts=ACTS)
def test_no_rotation_and_no_new_process_gives_a_unit_back(per: CountedPer, acts: list[tuple[str, object]]) -> None:
    """However often tokens are rotated and processes begin anew, what was used decides."""
    asyncio.run(_hold(Business(per), acts))


async def _hold(business: Business, acts: list[tuple[str, object]]) -> None:
    used = Counter[str]()
    for act, what in acts:
        if act == "rotate":
            business.rotate(str(what))
        elif act == "begin":
            business.begin()
        else:
            family, was_allowed = await business.ask(int(str(what)))
            account = family if business.limit.per is CountedPer.TOKEN else ""
            assert was_allowed == (used[account] < AMOUNT)
            used[account] += was_allowed

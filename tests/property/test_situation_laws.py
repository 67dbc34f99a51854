"""Laws of what is remembered between requests: it is never anything but what working it out anew would give."""

from dataclasses import replace
from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from support.pipelines import GRANT, LICENSE, NOW, credits_of

from tallygate.decision.situation import Situation, Situations
from tallygate.licenses.license import FirstUseTrial, License, Phase, Standing, Terms
from tallygate.licenses.routes import RouteRule

GRANTS = [replace(GRANT, plan=f"p@{number}", limits=(credits_of("c", number),)) for number in range(3)]
ROUTES = [RouteRule("*", "/**"), RouteRule("GET", "/a", (("requests", 5),)), RouteRule("*", "/b", scope="none")]

instants = st.integers(-6, 6).map(lambda hours: NOW + timedelta(hours=hours))
maybe = st.none() | instants


@st.composite
def phases(draw: st.DrawFn) -> tuple[Phase, ...]:
    """Return a life of one to three phases."""
    starts = sorted(draw(st.sets(instants, min_size=1, max_size=3)))
    return tuple(Phase(at, draw(st.sampled_from(Standing)), draw(st.sampled_from(GRANTS))) for at in starts)


@st.composite
def licenses(draw: st.DrawFn) -> License:
    """Return a license of one of two tokens, some of which wait for a first use."""
    trial = draw(
        st.none() | st.builds(FirstUseTrial, st.integers(1, 4).map(lambda hours: hours * 3600), phases(), maybe)
    )
    return replace(
        LICENSE,
        token=draw(st.sampled_from(["tok_1", "tok_2"])),
        terms=Terms(draw(phases()), trial),
        not_before_at=draw(maybe),
        expires_at=draw(maybe),
        revoked_at=draw(maybe),
        disabled_at=draw(maybe),
    )


@given(
    st.lists(licenses(), min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 2), instants, maybe, st.sampled_from(ROUTES)), max_size=30),
)
def test_what_is_remembered_is_what_would_be_worked_out(
    known: list[License], asked: list[tuple[int, datetime, datetime | None, RouteRule]]
) -> None:
    """Whatever license, time, first use and route follow one another, the answer is the one of a fresh start."""
    situations = Situations()
    for number, now, used_at, route in asked:
        token_license = known[number % len(known)]
        first_used_at = None if token_license.terms.first_use is None else used_at
        remembered = situations.of(token_license, now, first_used_at)
        fresh = Situation.at(now, token_license, first_used_at)
        assert (remembered.license, remembered.phase, remembered.refusal) == (token_license, fresh.phase, fresh.refusal)
        assert remembered.passage(route) == fresh.passage(route)

"""What a stranger costs: looking up keys comes after counting, and a key in use is nobody's neighbour's victim."""

from collections.abc import AsyncIterator

import pytest
from support.rest import problem, together
from support.rest_app import STRANGERS_AT_ONCE as AT_ONCE
from support.rest_app import RestApp, rest_app_over
from support.servers import Database

from tallygate.admin.records import Role
from tallygate.tokens.format import checksum


def guess(number: int) -> str:
    """Return a key that looks right and is none."""
    body = f"{number:030}"
    return f"tga_{body}{checksum(body)}"


@pytest.fixture
async def office(database: Database) -> AsyncIterator[RestApp]:
    """The app, nobody known to it."""
    async with rest_app_over(database) as made:
        yield made


async def key(office: RestApp) -> tuple[str, str]:
    """Make a key; return its id and its secret."""
    made = await office.operations.keys.create("a key", Role.VIEWER)
    return made.record.id, made.secret


async def guesses(office: RestApp, address: str, count: int) -> list[int]:
    """Try this many keys at once from one address; return the statuses."""
    answers = await together(*(office.at(address, guess(number)).get("/v1/customers") for number in range(count)))
    return sorted(answer.status_code for answer in answers)


async def test_guessing_costs_no_more_look_ups_than_the_address_may_make(office: RestApp) -> None:
    """However many well-formed keys are tried at once, only as many are looked up as the limit lets through."""
    assert await guesses(office, "192.0.2.1", 50) == [401] * AT_ONCE + [429] * (50 - AT_ONCE)
    assert office.registry.asked == AT_ONCE
    office.clock.advance(1)
    assert await guesses(office, "192.0.2.1", 5) == [401] + [429] * 4
    assert office.registry.asked == AT_ONCE + 1


async def test_no_key_and_no_possible_key_are_never_looked_up(office: RestApp) -> None:
    """Requests that cannot succeed are counted, and cost the database nothing."""
    for secret in (None, "tga_" + "0" * 36, "hello"):
        problem(await office.at("192.0.2.1", secret).get("/v1/customers"), 401)
    assert office.registry.asked == 0


async def test_a_key_in_use_passes_where_its_neighbours_guess(office: RestApp) -> None:
    """Behind one address with a guesser, a key that was good a moment ago works; one never seen has to wait."""
    _, known = await key(office)
    _, new = await key(office)
    assert (await office.at("192.0.2.1", known).get("/v1/customers")).status_code == 200
    await guesses(office, "192.0.2.1", 50)
    assert (await office.at("192.0.2.1", known).get("/v1/customers")).status_code == 200
    waiting = await office.at("192.0.2.1", new).get("/v1/customers")
    assert problem(waiting, 429)["violated-policies"] == ["address"]
    assert (await office.at("198.51.100.1", new).get("/v1/customers")).status_code == 200
    assert (await office.at("192.0.2.1", new).get("/v1/customers")).status_code == 200


async def test_a_key_that_was_revoked_is_a_stranger_again(office: RestApp) -> None:
    """Being familiar opens nothing: a revoked key is refused at once, and counted by address from then on."""
    key_id, secret = await key(office)
    visitor = office.at("192.0.2.1", secret)
    assert (await visitor.get("/v1/customers")).status_code == 200
    await office.operations.keys.revoke(key_id)
    statuses = [(await visitor.get("/v1/customers")).status_code for _ in range(20)]
    assert (statuses[0], statuses[-1]) == (401, 429)
    assert statuses.count(401) == AT_ONCE - 1  # the first use of the key was the first of this address

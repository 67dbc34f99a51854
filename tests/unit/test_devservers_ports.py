"""Ports chosen by us are tried again when taken meanwhile; ports named by the user are not."""

import pytest

from tallygate.devservers.ports import on_port
from tallygate.devservers.process import ServerStartError

TAKEN = "the end of its log: could not bind: Address already in use"


class Starter:
    """A server that fails with each of the given messages in turn, then starts."""

    def __init__(self, *messages: str) -> None:
        """Take the messages of the failures."""
        self._messages = list(messages)
        self.ports: list[int] = []

    async def __call__(self, port: int) -> int:
        """Start on `port`, or fail."""
        self.ports.append(port)
        if self._messages:
            raise ServerStartError(self._messages.pop(0))
        return port


async def test_a_chosen_port_taken_meanwhile_is_chosen_anew() -> None:
    """Two systems started at one moment both come up."""
    start = Starter(TAKEN, TAKEN)
    assert await on_port(0, start) == start.ports[2]


async def test_a_start_that_fails_for_another_reason_is_not_repeated() -> None:
    """The reason is told at once."""
    start = Starter("disk full")
    with pytest.raises(ServerStartError, match="disk full"):
        await on_port(0, start)
    assert len(start.ports) == 1


async def test_a_named_port_is_tried_once() -> None:
    """Who asked for 5432 gets 5432 or an error."""
    start = Starter(TAKEN)
    with pytest.raises(ServerStartError, match="already in use"):
        await on_port(5432, start)
    assert start.ports == [5432]

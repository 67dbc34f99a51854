"""Where access logs and usage are told, when nobody says where, or says it."""

import socket

import pytest

from tallygate.app.services_at import free_services_at, services_at
from tallygate.core.errors import InputError
from tallygate.settings import Settings

USUAL = "0.0.0.0:50052"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, USUAL),
        ({"workers": 2}, "0.0.0.0:50053"),
        ({"workers": 2, "worker_endpoints": "shared"}, USUAL),
        ({"workers": 4, "listen": "127.0.0.1:7000"}, USUAL),
        ({"workers": 2, "services_listen": "0.0.0.0:6000"}, "0.0.0.0:6000"),
        ({"workers": 2, "services_listen": "off"}, None),
    ],
)
def test_workers_come_first(settings: dict[str, object], expected: str | None) -> None:
    """Several workers start with the defaults: the services' usual port gives way to a worker's."""
    assert services_at(Settings.model_validate(settings)) == expected


def test_an_address_that_was_asked_for_is_not_moved() -> None:
    """Whoever names a worker's address is told where they could be instead."""
    settings = Settings.model_validate({"workers": 2, "services_listen": USUAL})
    with pytest.raises(InputError, match=r"TALLYGATE_SERVICES_LISTEN.*such as 0\.0\.0\.0:50053"):
        services_at(settings)


async def test_nobody_asked_for_it_and_it_is_taken() -> None:
    """A second Tallygate on the machine decides all the same; one that was told where to listen says that it cannot."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        unasked = Settings.model_construct(_fields_set=set(), services_listen=taken)
        assert await free_services_at(unasked) is None
        asked = Settings.model_validate({"services_listen": taken})
        assert await free_services_at(asked) == taken
    assert await free_services_at(unasked) == taken

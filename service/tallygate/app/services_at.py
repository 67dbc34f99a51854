"""Where access logs and usage are told: as it is set, or somewhere near the usual address.

Owns that an address nobody asked for is never the reason why requests are not decided.
"""

import structlog

from tallygate.core.errors import InputError
from tallygate.settings import SERVICES_OFF, Settings
from tallygate.transport.listening import SERVICES_SETTING, ListenAddress, bind
from tallygate.workers.endpoints import beside, endpoints, refuse_services, refuse_unshareable

_log = structlog.get_logger("tallygate.app")


def check_endpoints(values: Settings) -> list[str]:
    """Return where the workers check. Raises InputError for an address that is not for as many."""
    if values.workers > 1 and values.worker_endpoints == "shared":
        refuse_unshareable(values.listen)
        return [values.listen]
    return endpoints(values.listen, values.workers)


def services_at(values: Settings) -> str | None:
    """Return the address of the services, None where they are off: as it is set, or the usual one.

    The usual port may be a worker's; then it is the next after all of theirs. Raises InputError for an address that
    cannot be, or cannot be shared by workers.
    """
    if values.services_listen in SERVICES_OFF:
        return None
    ListenAddress.parse(values.services_listen, SERVICES_SETTING)
    if values.workers == 1:
        return values.services_listen
    checks = check_endpoints(values)
    at = values.services_listen if _is_asked_for(values) else beside(values.services_listen, checks)
    refuse_services(at, checks)
    return at


async def free_services_at(values: Settings) -> str | None:
    """Return `services_at`, None also where that is the usual address and somebody else has it: the log says so."""
    at = services_at(values)
    if at is None or _is_asked_for(values):
        return at
    try:
        (await bind(ListenAddress.parse(at, SERVICES_SETTING))).close()
    except InputError as error:
        _log.warning("access logs and usage are told nowhere", problem=str(error))
        return None
    return at


def _is_asked_for(values: Settings) -> bool:
    return "services_listen" in values.model_fields_set

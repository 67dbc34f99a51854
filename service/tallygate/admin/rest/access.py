"""Who may call: admin keys, their roles, and how often.

`Viewer`, `Issuer` and `Admin` are what a handler's `call` is annotated with: the role stands in the
signature, is enforced before the handler runs, and appears in the OpenAPI document.

Whoever is unknown pays before anything is looked up: a request without a key, or with one that was not good a
moment ago (`familiar`), is counted against its address first. So guessing costs the database no more than
the address' rate, and a key in use is not in the guessers' way, even from behind the same address. A good key
that comes for the first time costs its address one request, and waits with the others when there are too many.
"""

from http import HTTPStatus
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Annotated

from fastapi import Depends, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes
from starlette.requests import Request

from tallygate.admin.records import AdminKey, Role
from tallygate.admin.rest.call import Backstage, Call, backstage
from tallygate.admin.rest.problems import Problem

REALM = "tallygate-admin"
_JSON_TYPES = ("application/json", "+json")
_BEARER = HTTPBearer(
    auto_error=False,
    scheme_name="AdminKey",
    description="An admin key, made by `tallygate admin-keys create`. The role an operation needs is its scope.",
)
_IPV6_PREFIX = 64
Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]


async def admit(request: Request, needed: SecurityScopes, bearer: Bearer) -> Call:
    """Let a request in, or raise Problem: 401, 403, 415 or 429."""
    stage = backstage(request)
    key = await _key(request, stage, bearer)
    request.state.headers = await stage.throttle.charge_key(key.id)
    role = Role(needed.scopes[-1])
    if not key.role.may(role):
        raise Problem(
            HTTPStatus.FORBIDDEN,
            f"The key {key.id} has the role {key.role}, this needs {role}.",
            slug="role-missing",
            headers={"WWW-Authenticate": f'Bearer realm="{REALM}", error="insufficient_scope", scope="{role}"'},
        )
    need_json(request)
    return Call(request, stage, stage.control.acting(f"key:{key.id}", request.state.request_id))


async def charge_stranger(request: Request, stage: Backstage) -> None:
    """Count a request of somebody unknown against their address; raise Problem (429) when it is too often."""
    request.state.headers = await stage.throttle.charge_address(address_of(request))


def need_json(request: Request) -> None:
    """Raise Problem (415) for a body that says it is something else."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.state.body and not media_type.endswith(_JSON_TYPES):
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Send application/json.", headers={"Accept": _JSON_TYPES[0]})


def address_of(request: Request) -> str:
    """Return the caller's address; an IPv6 caller is their network, for they have all of it."""
    host = request.client.host if request.client else ""
    try:
        address = ip_address(host)
    except ValueError:
        return "unknown"
    if isinstance(address, IPv6Address):
        return str(ip_network((address, _IPV6_PREFIX), strict=False))
    return str(address)


async def _key(request: Request, stage: Backstage, bearer: HTTPAuthorizationCredentials | None) -> AdminKey:
    secret = None if bearer is None else bearer.credentials
    familiar = request.app.state.familiar
    is_familiar = secret is not None and familiar.knows(secret)
    if not is_familiar:
        await charge_stranger(request, stage)
    if secret is None:
        raise _unauthenticated("An admin key is required.")
    key = await stage.control.acting("anonymous").keys.authenticate(secret)
    if key is not None:
        familiar.remember(secret)
        return key
    if is_familiar:
        familiar.forget(secret)
        await charge_stranger(request, stage)
    raise _unauthenticated("No admin key like this is known.", ', error="invalid_token"')


def _unauthenticated(detail: str, error: str = "") -> Problem:
    headers = {"WWW-Authenticate": f'Bearer realm="{REALM}"{error}'}
    return Problem(HTTPStatus.UNAUTHORIZED, detail, slug="unauthenticated", headers=headers)


Viewer = Annotated[Call, Security(admit, scopes=[Role.VIEWER.value])]
Issuer = Annotated[Call, Security(admit, scopes=[Role.ISSUER.value])]
Admin = Annotated[Call, Security(admit, scopes=[Role.ADMIN.value])]

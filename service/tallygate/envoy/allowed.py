"""Write an Allow as Envoy's CheckResponse: what the upstream sees, what the client sees, what is logged.

Owns the identity headers and how the credential disappears. What depends on the license, its phase, the route and
the places of the credential alone is the same in every answer: it is serialized once and kept. One request adds
what is left of its limits, its decision's id and reason, its receipt, and what its caller sent that nobody may. For
one event loop.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tallygate._proto.envoy.v3.external_auth_pb2 import CheckResponse, OkHttpResponse, Status
from tallygate.decision.decision import Allow
from tallygate.envoy import metadata
from tallygate.envoy.kept import Kept
from tallygate.envoy.messages import header, headers, printable
from tallygate.envoy.ratelimit_fields import KeptFields
from tallygate.envoy.structured_fields import dictionary
from tallygate.envoy.wire import Blank, head
from tallygate.licenses.license import Grant, License

IDENTITY_PREFIX = "x-tallygate-"
FAILURE_MODE_HEADER = "x-envoy-auth-failure-mode-allowed"
_IDENTITY = tuple(
    IDENTITY_PREFIX + name for name in ("customer", "subscription", "plan", "token", "scopes", "features")
)
_RECEIPT = IDENTITY_PREFIX + "receipt"
_MARK = "tallygate"
_OK = CheckResponse(status=Status(code=0)).SerializeToString()
_OK_RESPONSE = CheckResponse.OK_RESPONSE_FIELD_NUMBER
_METADATA = CheckResponse.DYNAMIC_METADATA_FIELD_NUMBER


def _shown(name: str) -> Blank:
    return Blank(lambda value: OkHttpResponse(response_headers_to_add=headers({name: value})))


def _told(name: str) -> Blank:
    return Blank(lambda value: OkHttpResponse(headers=headers({name: value})))


_TOLD = {name: _told(name) for name in (*_IDENTITY, _RECEIPT)}
_NO_RECEIPT = OkHttpResponse(headers_to_remove=[_RECEIPT]).SerializeToString()
_RATELIMIT, _POLICY = _shown("ratelimit"), _shown("ratelimit-policy")


@dataclass(frozen=True, slots=True)
class _Known:
    """What answers share: a piece of the OkHttpResponse and one of the metadata."""

    ok: bytes
    metadata: bytes


class AllowedWriter:
    """Writes CheckResponses of allowed requests."""

    def __init__(self, fields: KeptFields) -> None:
        """Begin with nothing kept but `fields`."""
        self._kept: Kept[_Known] = Kept()
        self._fields = fields

    def write(self, decision: Allow, sent: Mapping[str, str]) -> bytes:
        """Return the serialized CheckResponse to a request that came with the headers `sent`."""
        known = self._known(decision)
        ok = known.ok
        if decision.states:
            fields = self._fields.of(decision.states)
            ok += _POLICY.fill(fields.policy) + _RATELIMIT.fill(fields.ratelimit(decision.states))
        names = " ".join(sent).lower()
        if _MARK in names or FAILURE_MODE_HEADER in names:
            ok += OkHttpResponse(headers_to_remove=_spoofed(sent)).SerializeToString()
        logged = known.metadata + metadata.of_decision(decision)
        if decision.receipt is None:
            ok += _NO_RECEIPT
        else:
            ok += _TOLD[_RECEIPT].fill(printable(f"{decision.license.customer}:{decision.receipt}"))
            logged += metadata.of_receipt(decision.receipt)
        if decision.credential.set_cookie_header is not None:
            ok += _cookie(decision.credential.set_cookie_header)
        if decision.opinions:
            logged += metadata.of_shadow(decision.would_refuse)
        return b"".join((_OK, head(_OK_RESPONSE, len(ok)), ok, head(_METADATA, len(logged)), logged))

    def _known(self, decision: Allow) -> _Known:
        license_, phase, route, credential = decision.license, decision.phase, decision.route, decision.credential
        key = (id(license_), id(phase), id(route), credential.remove_headers, credential.remove_query)
        return self._kept.get(key) or self._kept.put(key, _known(decision), (license_, phase, route))


def _known(decision: Allow) -> _Known:
    identity = dict(zip(_IDENTITY, _identity(decision.license, decision.phase.grant), strict=True))
    # A name that is both set and removed is removed: the two must stay apart.
    removed = {*decision.credential.remove_headers, *(name for name, value in identity.items() if not value)}
    mutations = OkHttpResponse(
        headers_to_remove=sorted(removed), query_parameters_to_remove=decision.credential.remove_query
    )
    told = b"".join([_TOLD[name].fill(printable(value)) for name, value in identity.items()])
    logged = metadata.of_holder(decision.license, decision.phase) + metadata.of_route(decision.route)
    return _Known(told + mutations.SerializeToString(), logged)


def _identity(license_: License, grant: Grant) -> tuple[str, ...]:
    """Return the values of the headers of `_IDENTITY`, empty for those that the upstream must not get."""
    scopes = " ".join(sorted(license_.scopes_under(grant)))
    features = dictionary(grant.features)
    return license_.customer, license_.subscription, grant.plan, license_.family, scopes, features


def _spoofed(sent: Mapping[str, str]) -> list[str]:
    # Many upstreams read an underscore as a hyphen: a name counts as ours either way.
    names = {name.lower() for name in sent}
    ours = {name for name in names if name.replace("_", "-").startswith(IDENTITY_PREFIX)}
    return sorted(ours - {*_IDENTITY, _RECEIPT} | names & {FAILURE_MODE_HEADER})


def _cookie(left: str) -> bytes:
    """Return what replaces the header: the cookies that are left, or its removal when none is."""
    if not left:
        return OkHttpResponse(headers_to_remove=["cookie"]).SerializeToString()
    return OkHttpResponse(headers=[header("cookie", left)]).SerializeToString()

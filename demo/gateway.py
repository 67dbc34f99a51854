"""Envoy in the demo, and a caller in front of it.

Owns what is changed of the shipped configuration: every answer tells its reason, refused or not, and Envoy is patient,
for the whole system shares one machine with its callers. Does not own what is asked.
"""

from dataclasses import dataclass

import httpx
from demo.persona import Credential, Request

from tallygate.cli.shipped import shipped
from tallygate.tokens.format import Environment, TokenFormat
from tallygate.tokens.mint import mint

_CONFIG, _DOMAINS = "deploy/envoy/05-access-log.yaml", 'domains: ["*"]'
_REASON = "x-demo-reason"
_PATIENCE_S = 15
_TELLING = f"""{_DOMAINS}
                      response_headers_to_add:
                        - header:
                            key: {_REASON}
                            value: "%DYNAMIC_METADATA(envoy.filters.http.ext_authz:reason)%"
                          keep_empty_value: false"""
_DEADLINE_S = 20


def envoy_config() -> str:
    """Return the shipped configuration that tells outcomes, with these changes."""
    config = shipped(_CONFIG)
    assert config.count(_DOMAINS) == 1  # noqa: S101 - or the demo would be told nothing
    for brief in ("max_interval: 0.2s", "timeout: 0.2s", "connect_timeout: 1s"):
        assert brief in config, brief  # noqa: S101 - or Envoy would not be patient
        config = config.replace(brief, f"{brief.partition(' ')[0]} {_PATIENCE_S}s")
    return config.replace(_DOMAINS, _TELLING)


@dataclass(frozen=True, slots=True)
class Caller:
    """Asks through Envoy, as many at once as are told to."""

    http: httpx.AsyncClient

    async def ask(self, asked: Request, credential: Credential, secret: str) -> str:
        """Return status and reason as they came back, such as `429 rate_limited`."""
        try:
            answer = await self.http.request(
                asked.method, asked.path, headers={**asked.headers, **_shown(credential, secret)}
            )
        except httpx.TransportError as error:
            return f"no answer ({type(error).__name__})"
        if answer.headers.get("content-type") == "application/problem+json":
            return f"{answer.status_code} {answer.json()['reason']}"
        return f"{answer.status_code} {answer.headers.get(_REASON, '')}".strip()


def caller(gateway_url: str) -> Caller:
    """Return a caller; its `http` is the owner's to close."""
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=100)
    return Caller(httpx.AsyncClient(base_url=gateway_url, timeout=_DEADLINE_S, limits=limits, trust_env=False))


def _shown(credential: Credential, secret: str) -> dict[str, str]:
    match credential:
        case Credential.NONE:
            return {}
        case Credential.MALFORMED:
            return {"authorization": "Bearer tg_live_not-a-token"}
        case Credential.UNKNOWN:
            return {"authorization": f"Bearer {_invented()}"}
        case Credential.TWO:
            return {"authorization": f"Bearer {_invented()}", "x-api-key": _invented()}
        case Credential.OWN:
            return {"authorization": f"Bearer {secret}"}


def _invented() -> str:
    return mint(TokenFormat(), Environment.LIVE).text

"""What the upstream learns of a caller, and what nobody learns: the credential."""

from pathlib import Path

import pytest
from support.world import THINGS, World, told


async def test_the_upstream_reads_who_calls(world: World) -> None:
    """Customer, subscription, plan, family, scopes and features are told, exactly and once."""
    account = await world.account("open", scopes=("things.read",))
    received = (await world.get(account.secret)).json()["headers"]
    assert {name: value for name, value in received.items() if name.startswith("x-tallygate-")} == {
        "x-tallygate-customer": account.customer.id,
        "x-tallygate-subscription": account.subscription.id,
        "x-tallygate-plan": account.subscription.plan,
        "x-tallygate-token": account.issued.record.family,
        "x-tallygate-scopes": "things.read",
        "x-tallygate-features": "reports, seats=5",
    }


async def test_nobody_can_claim_to_be_somebody_else(world: World) -> None:
    """Identity headers of the client are overwritten or removed, known names and unknown ones, in any case."""
    account = await world.account("rated")
    claimed = {
        "x-tallygate-customer": "cus_somebody_else",
        "X-Tallygate-Scopes": "admin",
        "x-tallygate-features": "everything",
        "x-tallygate-admin": "true",
        "x-envoy-auth-failure-mode-allowed": "true",
    }
    received = (await world.get(account.secret, headers=claimed)).json()["headers"]
    assert received["x-tallygate-customer"] == account.customer.id
    assert {name for name in received if name.startswith("x-tallygate-")} == {
        "x-tallygate-customer",
        "x-tallygate-subscription",
        "x-tallygate-plan",
        "x-tallygate-token",
    }
    assert "x-envoy-auth-failure-mode-allowed" not in received


@pytest.mark.parametrize("name", ["x_tallygate_customer", "x_tallygate-admin"])
async def test_an_underscore_is_no_way_around(world: World, name: str) -> None:
    """Servers that read underscores as hyphens are never sent such a name."""
    account = await world.account("open")
    assert (await world.get(account.secret, headers={name: "cus_somebody_else"})).status_code == 400


async def test_a_bare_claim_without_a_token_is_nothing(world: World) -> None:
    """Identity headers alone let nobody in."""
    assert told(await world.get(None, headers={"x-tallygate-customer": "cus_1"})) == "401 credential_missing"


async def test_the_credential_ends_at_the_gateway(world: World) -> None:
    """However it is sent, the upstream sees no trace of it; other headers and the query pass untouched."""
    account = await world.account("open")
    secret = account.secret
    ways = [
        {"authorization": f"Bearer {secret}"},
        {"authorization": f"bearer   {secret}"},
        {"x-api-key": secret},
        {"authorization": f"DPoP {secret}"},
        {"authorization": f"Bearer {secret}", "x-api-key": secret},
    ]
    for headers in ways:
        answer = await world.get(None, f"{THINGS}?page=2", headers=headers | {"accept-language": "de", "cookie": "a=b"})
        assert answer.status_code == 200, headers.keys()
        received = answer.json()
        assert secret not in answer.text
        assert not {"authorization", "x-api-key"} & received["headers"].keys()
        assert (received["path"], received["headers"]["accept-language"]) == (f"{THINGS}?page=2", "de")
        assert received["headers"]["cookie"] == "a=b"
    assert secret not in world.system.upstream_log.read_text()


async def test_no_secret_is_written_anywhere(world: World) -> None:
    """After good, refused and revoked requests no file of the data directory and no metric holds a token.

    The environment file is there for whoever runs the system; it holds no customer's token either.
    """
    account = await world.account("rated")
    secrets = [account.secret]
    secrets.append((await world.system.control.tokens.rotate(account.issued.record.id)).secret)
    for secret in secrets:
        for headers in (
            {"authorization": f"Bearer {secret}"},
            {"x-api-key": secret},
            {"authorization": f"Basic {secret}"},
        ):
            await world.get(None, f"{THINGS}?api_key={secret}", headers=headers | {"cookie": f"t={secret}"})
    # What the path and the cookie of a request hold is the caller's own, and passes to the upstream.
    own = {world.system.upstream_log}
    bodies = [secret[8:38].encode() for secret in secrets]
    found = [path for path in files_of(world.system.data_dir) if path not in own and holds(path, bodies)]
    assert found == []
    metrics = (await world.http.get(world.system.metrics_url)).content
    assert not any(body in metrics for body in bodies)


def files_of(directory: Path) -> list[Path]:
    """Return every file below `directory`: logs, configuration, and the servers' own data."""
    files = [path for path in directory.rglob("*") if path.is_file() and not path.is_symlink()]
    assert {"serve.log", "envoy.log", "postgres.log", "valkey.log", "env"} <= {path.name for path in files}
    return files


def holds(path: Path, texts: list[bytes]) -> bool:
    """Say whether a file holds one of `texts`; one that is gone meanwhile holds nothing."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return False
    return any(text in content for text in texts)

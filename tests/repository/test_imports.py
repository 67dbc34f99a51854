"""What a command imports: nothing that belongs to another command, for whoever types it waits for that."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SAMPLE = str(ROOT / "examples" / "plans.yaml")
TOKEN = "tg_live_" + "0" * 36
# Nobody listens there: a command comes as far as asking Postgres, and ends.
ENVIRONMENT = {"TALLYGATE_POSTGRES_DSN": "postgresql://nobody@127.0.0.1:1/none", "TALLYGATE_PEPPER": "p" * 32}
OF_OTHERS = {
    *("grpc", "google", "h2corn", "redis", "hiredis", "prometheus_client", "uvloop"),
    *("fastapi", "starlette", "uvicorn", "httpx", "cryptography", "structlog"),
}
OF_TABLES = {"rich"}
OF_THE_CONTROL_PLANE = {"asyncpg", "pydantic", "msgspec", "yaml"}
_PROBE = """
import sys
from tallygate.cli.main import run
sys.argv = ["tallygate", *sys.argv[1:]]
try:
    run()
finally:
    print("\\n" + " ".join({name.split(".")[0] for name in sys.modules}))
"""


def imported(*arguments: str, code: int) -> set[str]:
    """Return the top-level packages a command has imported by the time it ends with `code`."""
    command = [sys.executable, "-c", _PROBE, *arguments]
    ran = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == code, ran.stderr
    return set(ran.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("arguments", [("--help",), ("--version",)], ids=" ".join)
def test_asking_what_there_is_imports_nothing_that_does_it(arguments: tuple[str, ...]) -> None:
    """The list of commands comes at once."""
    assert imported(*arguments, code=0) & (OF_OTHERS | OF_TABLES | OF_THE_CONTROL_PLANE) == set()


@pytest.mark.parametrize(
    "arguments",
    [
        ("tokens", "issue", "--customer", "acme", "--json"),
        ("tokens", "revoke", TOKEN),
        ("plans", "apply", SAMPLE),
        ("customers", "create", "acme"),
        ("subscriptions", "create", "--customer", "acme", "--plan", "pro"),
        ("subscriptions", "change", "sub_1", "--plan", "pro"),
        ("invoices", "preview", "--customer", "acme"),
        ("audit", "verify"),
        ("admin-keys", "list"),
        ("db", "migrate"),
    ],
    ids=" ".join,
)
def test_an_act_of_the_control_plane_imports_no_other_plane(arguments: tuple[str, ...]) -> None:
    """Issuing a token waits for no gRPC, no Redis and no web server; tables are drawn only where one is printed."""
    assert imported(*arguments, code=1) & (OF_OTHERS | OF_TABLES) == set()


def test_the_probe_sees_what_a_command_imports() -> None:
    """The tests above would notice: `explain` counts in Redis, and a table is drawn by rich."""
    explained = imported("explain", "GET", "/v1/things", "--token", TOKEN, code=2)
    assert {"redis", "asyncpg", "pydantic"} <= explained
    assert "rich" in imported("config", "show", code=0)

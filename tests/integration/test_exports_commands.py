"""`tallygate exports …`, `customers refer` and their REST, over a real ledger and a local receiver; and the worker."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from prometheus_client import generate_latest
from support.commands import Shell
from support.exporting import Books, open_books, table_of
from support.receiver_servers import BEARER, Fault, LagoServer, ReceiverServer
from support.rest import Rest, problem, running_rest, settings_of
from support.servers import Database

from tallygate.app.exports import exports
from tallygate.core.errors import InputError
from tallygate.metrics import WorkerMetrics

PATH = "/v1/customers/acme/references/stripe"


@pytest.fixture
async def books(database: Database) -> AsyncIterator[Books]:
    """The ledger of a customer who used something."""
    async with open_books(database) as opened:
        await opened.use([5, 7, 9])
        yield opened


@pytest.fixture
def server() -> Iterator[ReceiverServer]:
    """A receiver in a thread of its own, for commands are waited for."""
    loop, ready, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    made = LagoServer()

    async def serve() -> None:
        async with made.running():
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    ready.wait(timeout=10)
    yield made
    loop.call_soon_threadsafe(stop.set)
    thread.join(timeout=10)
    loop.close()


@pytest.fixture
def configured(server: ReceiverServer, tmp_path: Path) -> Path:
    """A file with one export, to that receiver."""
    (tmp_path / "key").write_text(BEARER)
    path = tmp_path / "exports.toml"
    path.write_text(table_of("lago", server.url).replace('key_env = "KEY"', 'key_file = "key"'))
    return path


@pytest.fixture
def told(shell: Shell, configured: Path) -> Shell:
    """A shell whose settings name the file."""
    return replace(shell, environment={**shell.environment, "TALLYGATE_EXPORTS_FILE": str(configured)})


async def test_an_operator_runs_looks_and_sends_again(books: Books, told: Shell, server: ReceiverServer) -> None:
    """Before the first run nothing is told; after it everything; a replay changes nothing at the receiver."""
    (listed,) = told("exports", "list", "--json").items
    assert (listed["name"], listed["kind"], listed["last_id"]) == ("lago", "lago", None)
    (ran,) = told("exports", "run", "--once", "--json").items
    assert (ran["sent"], ran["problem"]) == (3, "")
    assert server.values() == [5, 7, 9]
    assert told("exports", "show", "lago", "--json").json["last_id"] == 3
    assert told("exports", "replay", "lago", "--from", "2", "--json").json["last_id"] == 1
    assert told("exports", "run", "lago", "--once", "--json").items[0]["repeated"] == 2
    assert server.values() == [5, 7, 9]
    assert (await books.cursor("lago")).last_id == 3


async def test_what_was_put_aside_is_shown_and_sent_again(books: Books, told: Shell, server: ReceiverServer) -> None:
    """With the receiver's words."""
    server.refuses = lambda taken: taken.value == 7
    ran = told("exports", "run", "--once", "--json")
    assert (ran.code, json.loads(ran.out)["items"][0]["aside"]) == (0, 1)
    (aside,) = told("exports", "show", "lago", "--json").json["asides"]
    assert "metric_not_found" in aside["reason"]
    assert "metric_not_found" in told("exports", "show", "lago").out
    server.refuses = lambda _: False
    assert told("exports", "replay", "lago", "--json").json == {"name": "lago", "entries": 1}
    assert told("exports", "run", "--once", "--json").items[0]["sent"] == 1
    assert sorted(server.values()) == [5, 7, 9]
    assert books.customer


async def test_a_failure_exits_1_and_a_pause_holds(books: Books, told: Shell, server: ReceiverServer) -> None:
    """What is wrong is in the answer; the acts are in the audit log."""
    server.faults.append(Fault.LOCKS_OUT)
    ran = told("exports", "run", "--once")
    assert (ran.code, "401" in ran.out, BEARER in ran.out) == (1, True, False)
    assert told("exports", "pause", "lago", "--reason", "month's end", "--json").json["is_paused"]
    assert told("exports", "run", "--once", "--json").items[0]["is_paused"]
    assert server.values() == []
    assert not told("exports", "resume", "lago", "--json").json["is_paused"]
    assert told("exports", "run", "--once").code == 0
    actions = [entry["action"] for entry in told("audit", "list", "--json").items]
    assert {"export.pause", "export.resume"} <= set(actions)
    assert books.customer


def test_what_is_not_configured_is_refused(books: Books, told: Shell, configured: Path) -> None:
    """Exit 2, and the field."""
    assert "no export 'stripe'" in told("exports", "show", "stripe").refused()
    assert "no export 'stripe'" in told("exports", "run", "stripe", "--once").refused()
    assert "from" in told("exports", "replay", "lago", "--from", "yesterday").refused()
    configured.write_text("[exports.lago]\nkind = 'lago'\n")
    assert "exports.lago.key_file" in told("exports", "list").refused()
    assert "exports.lago.key_file" in told("worker").refused()
    assert "exports.lago.key_file" in told("config", "check").refused()
    assert books.customer


async def test_references_by_command(books: Books, shell: Shell) -> None:
    """Set, listed, changed and forgotten."""
    assert shell("customers", "refer", "acme", "stripe", "cus_9", "--json").json["reference"] == "cus_9"
    assert [item["reference"] for item in shell("customers", "refer", "acme", "--json").items] == ["cus_9"]
    assert shell("customers", "refer", "acme", "stripe", "--remove").code == 0
    assert shell("customers", "refer", "acme", "--json").items == []
    assert "stripe" in shell("customers", "refer", "acme", "stripe", "--remove").refused()
    assert "reference" in shell("customers", "refer", "acme", "stripe", "two words").refused()
    assert "system" in shell("customers", "refer", "acme", "Stripe", "x").refused()
    assert "--remove" in shell("customers", "refer", "acme", "stripe").refused()
    assert books.customer


@pytest.fixture
async def rest(database: Database, redis_url: str) -> AsyncIterator[Rest]:
    """A running API with the customer `acme`."""
    async with running_rest(database, redis_url) as running:
        await running.made("/v1/customers", key="acme")
        yield running


async def test_references_by_rest(rest: Rest) -> None:
    """PUT sets and changes, GET shows, DELETE forgets; who may only look may not change; all is audited."""
    problem(await rest.viewer.get(PATH), 404)
    problem(await rest.issuer.put(PATH, json={"reference": "cus_1"}), 403)
    problem(await rest.admin.put(PATH, json={"reference": "two words"}), 422)
    for reference in ("cus_1", "cus_2", "cus_2"):
        answer = await rest.admin.put(PATH, json={"reference": reference})
        assert (answer.status_code, answer.json()["reference"]) == (httpx.codes.OK, reference)
    assert (await rest.viewer.get(PATH)).json()["reference"] == "cus_2"
    (listed,) = (await rest.viewer.get("/v1/customers/acme/references")).json()["items"]
    assert (listed["system"], listed["reference"]) == ("stripe", "cus_2")
    assert (await rest.admin.delete(PATH)).json()["reference"] == "cus_2"
    problem(await rest.admin.delete(PATH), 404)
    entries = (await rest.viewer.get("/v1/audit", params={"limit": 10})).json()["items"]
    assert [entry["action"] for entry in entries if "refer" in entry["action"]].count("customer.refer") == 2
    problem(await rest.viewer.get("/v1/customers/nobody/references"), 404)


async def test_a_reference_that_looks_like_a_token_is_not_kept(rest: Rest) -> None:
    """The log only grows: a secret pasted into the wrong field must not get in."""
    secret = "tg_live_" + "0" * 36
    problem(await rest.admin.put(PATH, json={"reference": secret}), 422)
    problem(await rest.viewer.get(PATH), 404)
    assert secret not in (await rest.viewer.get("/v1/audit", params={"limit": 100})).text


async def test_the_worker_sends_and_measures(
    books: Books, database: Database, redis_url: str, server: ReceiverServer, configured: Path
) -> None:
    """How old the oldest entry is that is not exported, and what became of each."""
    values = settings_of(database, redis_url, exports_file=str(configured))
    metrics = WorkerMetrics("test")
    work = exports(values, metrics, books.clock)
    ((name, (_, round_)),) = work.items()
    assert name == "export lago"
    books.clock.advance(100)
    server.faults.append(Fault.FAILS)
    await round_()
    assert b'tallygate_export_lag_seconds{export="lago"} 100.0' in generate_latest(metrics.registry)
    books.clock.advance(50)
    await round_()
    assert b'tallygate_export_lag_seconds{export="lago"} 150.0' in generate_latest(metrics.registry), (
        "it grows in a pause"
    )
    books.clock.advance(600)
    await round_()
    shown = generate_latest(metrics.registry)
    assert b'tallygate_export_lag_seconds{export="lago"} 0.0' in shown
    assert b'tallygate_exported_rows_total{export="lago",result="sent"} 3.0' in shown
    assert b'tallygate_export_aside_rows{export="lago"} 0.0' in shown


def test_a_wrong_file_stops_the_start(database: Database, redis_url: str, tmp_path: Path) -> None:
    """Nobody is told of nothing for weeks because of a slip of the pen."""
    path = tmp_path / "exports.toml"
    path.write_text("[exports.x]\nkind = 'stripe'\n")
    values = settings_of(database, redis_url, exports_file=str(path))
    with pytest.raises(InputError, match=r"exports\.x\.key_file"):
        exports(values, WorkerMetrics("test"), None)  # type: ignore[arg-type]  # not reached

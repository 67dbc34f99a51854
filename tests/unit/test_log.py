"""Logs: one JSON object a line, and no credential in it, however it got there."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from tallygate import log
from tallygate.core.redaction import HIDDEN, hide_secrets

TOKEN = "tg_live_" + "A1b2" * 9
PASSWORD = "hunter2secret"


@pytest.fixture(autouse=True)
def standing_configuration() -> Iterator[None]:
    """Put logging back as the other tests expect it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Return what was logged; nothing of it may stand on stdout, which belongs to a command's answer."""
    captured = capsys.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


def test_a_line_is_one_json_object_with_time_and_level(capsys: pytest.CaptureFixture[str]) -> None:
    """A log collector needs no pattern of ours."""
    log.configure("info", is_terminal=False)
    structlog.get_logger("tallygate.test").info("something happened", count=3)
    (line,) = lines(capsys)
    assert (line["event"], line["level"], line["count"]) == ("something happened", "info", 3)
    assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize(("level", "expected"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_level_is_the_least_that_is_logged(capsys: pytest.CaptureFixture[str], level: str, expected: int) -> None:
    """Both our own logger and the libraries' obey it."""
    log.configure(level, is_terminal=False)
    for logger in (structlog.get_logger("tallygate.test"), logging.getLogger("library")):
        for method in ("debug", "info", "warning", "error"):
            getattr(logger, method)("said")
    assert len(lines(capsys)) == 2 * expected


@pytest.mark.parametrize("name", ["authorization", "Authorization", "x-api-key", "cookie", "token", "pepper", "dsn"])
def test_the_name_of_a_credential_hides_its_value(capsys: pytest.CaptureFixture[str], name: str) -> None:
    """Whatever stands under such a name, at the top or inside headers, is not written."""
    log.configure("info", is_terminal=False)
    structlog.get_logger().info("seen", **{name: "opaque", "headers": {name: "opaque", "accept": "*/*"}})
    (line,) = lines(capsys)
    assert line[name] == HIDDEN
    assert line["headers"] == {name: HIDDEN, "accept": "*/*"}


@pytest.mark.parametrize(
    "value",
    [
        TOKEN,
        f"Bearer {TOKEN}",
        [f"?api_key={TOKEN}&a=b"],
        {"deep": {"deeper": (TOKEN,)}},
        TOKEN.encode(),
        {TOKEN},
        ValueError(f"cannot read {TOKEN}"),
        f"session_{TOKEN}",
        "a" * 30 + TOKEN,
        {TOKEN: 1},
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_looks_like_a_token_is_cut_out(capsys: pytest.CaptureFixture[str], value: object) -> None:
    """A token hidden in any text, list, mapping, bytes or exception of an event is not written."""
    log.configure("info", is_terminal=False)
    structlog.get_logger().info(f"seen {TOKEN}", what=value)
    written = capsys.readouterr().err
    assert HIDDEN in written
    assert TOKEN[-20:] not in written


def test_an_exception_trace_is_cleaned(capsys: pytest.CaptureFixture[str]) -> None:
    """The trace is written, the token in its message is not: of our logger, and of a library's."""
    log.configure("info", is_terminal=False)
    for logger in (structlog.get_logger("tallygate.test"), logging.getLogger("library")):
        try:
            raise ValueError(f"no such token: {TOKEN}")  # noqa: TRY301 - it has to be on its way
        except ValueError:
            logger.exception("it failed")
    written = capsys.readouterr().err
    assert written.count("ValueError: no such token: tg_live_") == 2
    assert TOKEN[-20:] not in written


def test_a_librarys_message_is_cleaned(capsys: pytest.CaptureFixture[str]) -> None:
    """Arguments of a library's message are filled in before it is looked through."""
    log.configure("info", is_terminal=False)
    logging.getLogger("library").warning("cannot reach %s with %s", f"redis://default:{PASSWORD}@host:6379", TOKEN)
    (line,) = lines(capsys)
    assert line["event"] == f"cannot reach redis://default:{HIDDEN}@host:6379 with tg_live_{HIDDEN}"


def test_a_terminal_gets_text_for_people_and_no_secret_either(capsys: pytest.CaptureFixture[str]) -> None:
    """The coloured form hides the same."""
    log.configure("info", is_terminal=True)
    structlog.get_logger().info("seen", what=TOKEN)
    written = capsys.readouterr().err
    assert "seen" in written
    assert not written.startswith("{")
    assert TOKEN[-20:] not in written


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://user:p%40ss@host/db", f"postgresql://user:{HIDDEN}@host/db"),
        ("redis://:pw@host", f"redis://:{HIDDEN}@host"),
        ("http://host:8080/a@b", "http://host:8080/a@b"),
        ("acme_test_" + "z" * 36, f"acme_test_{HIDDEN}"),
        ("tok_01jd0000000000000000000000", "tok_01jd0000000000000000000000"),
        ("tg_live_short", "tg_live_short"),
    ],
)
def test_only_secrets_are_cut(text: str, expected: str) -> None:
    """Ids, ports and addresses stay readable."""
    assert hide_secrets(text) == expected


def test_numbers_and_nothing_stay_what_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """Cleaning turns no number into text."""
    log.configure("info", is_terminal=False)
    structlog.get_logger().info("seen", count=1, share=0.5, flag=True, none=None, items=[1, "a"])
    (line,) = lines(capsys)
    assert [line[name] for name in ("count", "share", "flag", "none", "items")] == [1, 0.5, True, None, [1, "a"]]

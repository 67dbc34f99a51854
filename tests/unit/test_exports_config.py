"""The file of exports: what may stand in it, and what is said of what may not."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tallygate.billing.exports.config import CloudEventsExport, FilesExport, StripeExport, read
from tallygate.billing.exports.terms import Terms
from tallygate.core.errors import InputError

WHOLE = """
[exports.billing]
kind = "stripe"
key_file = "stripe-key"
outcomes = "overage"
environment = "all"
from = 2026-06-01T00:00:00Z
meters = {requests = "api_requests"}

[exports.bus]
kind = "cloudevents"
url = "https://bus.example/usage?tenant=1"
secret_env = "BUS_SECRET"
subject = "id"

[exports.nightly]
kind = "files"
directory = "out"
format = "parquet"
columns = "focus"
meters = ["requests"]
"""
SECRET = "whsec_" + "A" * 32


def written(directory: Path, text: str) -> Path:
    """Return a file of exports, with a key beside it."""
    (directory / "stripe-key").write_text("sk_of_tests\n")
    path = directory / "exports.toml"
    path.write_text(text)
    return path


def test_a_file_says_who_is_told_of_what(tmp_path: Path) -> None:
    """Keys come from where the file says; paths count from where it stands."""
    billing, bus, nightly = read(written(tmp_path, WHOLE), {"BUS_SECRET": SECRET})
    assert isinstance(billing, StripeExport)
    assert billing.key.get_secret_value() == "sk_of_tests"
    begin = datetime(2026, 6, 1, tzinfo=UTC)
    assert billing.told() == Terms("reference:stripe", {"requests": "api_requests"}, "overage", "all", begin)
    assert isinstance(bus, CloudEventsExport)
    assert (bus.secret.get_secret_value(), bus.told()) == (SECRET, Terms("id"))
    assert isinstance(nightly, FilesExport)
    assert (nightly.name, nightly.directory) == ("nightly", tmp_path / "out")
    assert nightly.told() == Terms(meters={"requests": "requests"})


def test_keys_are_not_shown(tmp_path: Path) -> None:
    """Neither in a log nor in a traceback."""
    assert "sk_of_tests" not in repr(read(written(tmp_path, WHOLE), {"BUS_SECRET": SECRET}))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ('kind = "stripe"\nkey = "sk_1"', "exports.x.key: does not belong here"),
        ('kind = "stripe"', "exports.x.key_file: is missing"),
        ('kind = "stripe"\nkey_file = "missing"', "exports.x.key_file:"),
        ('kind = "stripe"\nkey_env = "EMPTY"', "exports.x.key_env: EMPTY does not hold"),
        ('kind = "stripe"\nkey_env = "EMPTY"\nkey_file = "stripe-key"', "choose one"),
        ('kind = "stripe"\nkey_file = "stripe-key"\nsubject = "reference:"', "exports.x.subject:"),
        ('kind = "stripe"\nkey_file = "stripe-key"\nmeters = {"A b" = "x"}', "exports.x.meters.A b"),
        ('kind = "stripe"\nkey_file = "stripe-key"\nfrom = 2026-06-01', "exports.x.from:"),
        ('kind = "stripe"\nkey_file = "stripe-key"\nurl = "ftp://x"', "exports.x.url:"),
        ('kind = "stripe"\nkey_file = "stripe-key"\ndeadline_s = 0', "exports.x.deadline_s:"),
        ('kind = "cloudevents"\nurl = "https://x"\nsecret_env = "SHORT"', "exports.x.secret_file:"),
        ('kind = "files"', "exports.x.directory:"),
        ('kind = "files"\ndirectory = "out"\nformat = "xlsx"', "exports.x.format:"),
        ('kind = "carrier-pigeon"', "exports.x"),
        ("directory = 1", "exports.x"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, wrong: str, told: str) -> None:
    """With the table and the field, whoever wrote it finds it."""
    with pytest.raises(InputError) as refused:
        read(written(tmp_path, f"[exports.x]\n{wrong}\n"), {"EMPTY": " ", "SHORT": "whsec_AAAA"})
    assert told in str(refused.value)
    assert "sk_1" not in str(refused.value)


def test_every_mistake_is_named_at_once(tmp_path: Path) -> None:
    """Nobody starts a worker four times to learn of four mistakes."""
    text = '[export]\n[exports.a]\nkind = "stripe"\n[exports."B c"]\nkind = "files"\n[exports.d]\nkind = "files"\n'
    with pytest.raises(InputError) as refused:
        read(written(tmp_path, text), {})
    for table in ("export:", "exports.a.key_file", "exports.B c", "exports.d.directory"):
        assert table in str(refused.value)


@pytest.mark.parametrize("text", ["", "exports = 1", "[exports", "\udcff"])
def test_a_file_without_exports_is_refused(tmp_path: Path, text: str) -> None:
    """So is one that is no TOML, or is not there."""
    path = tmp_path / "exports.toml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match="TALLYGATE_EXPORTS_FILE"):
        read(path, {})
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path / "none.toml", {})

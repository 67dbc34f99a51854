"""Other addresses in a shipped Envoy file: those, and nothing else."""

from pathlib import Path

import pytest
import yaml
from support.envoy_text import PLAIN_PROXY

from tallygate.core.errors import InputError
from tallygate.devservers.envoy_config import parse, with_endpoints


def test_only_the_addresses_change() -> None:
    """What is tested is the shipped file: put the old addresses back and it is the same document."""
    changed = with_endpoints(
        PLAIN_PROXY, listeners={"gateway": ("127.0.0.1", 0)}, clusters={"upstream": ("127.0.0.1", 99)}, admin=("::1", 7)
    )
    back = with_endpoints(
        changed,
        listeners={"gateway": ("0.0.0.0", 8080)},  # noqa: S104
        clusters={"upstream": [("upstream.example", 80), ("second.example", 80)]},
        admin=("127.0.0.1", 9901),
    )
    assert yaml.safe_load(changed) != yaml.safe_load(PLAIN_PROXY)
    assert yaml.safe_load(back) == yaml.safe_load(PLAIN_PROXY)


def test_a_cluster_may_be_a_unix_socket() -> None:
    """The address becomes a pipe, and names are no longer resolved: Envoy refuses a pipe in a DNS cluster."""
    changed = parse(with_endpoints(PLAIN_PROXY, listeners={}, clusters={"upstream": Path("/run/up.sock")}))
    cluster = changed["static_resources"]["clusters"][0]
    endpoints = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert endpoints == [{"endpoint": {"address": {"pipe": {"path": "/run/up.sock"}}}}]
    assert cluster["type"] == "STATIC"


def test_a_missing_admin_address_is_added() -> None:
    """A file without admin interface can be started and asked too."""
    changed = parse(with_endpoints("static_resources: {}", listeners={}, clusters={}))
    assert changed["admin"] == {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}}


@pytest.mark.parametrize("kind", ["listeners", "clusters"])
def test_an_unknown_name_is_told_with_those_there_are(kind: str) -> None:
    """A renamed listener or cluster fails loudly instead of running on the shipped address."""
    asked = {"listeners": {}, "clusters": {}, kind: {"other": ("127.0.0.1", 1)}}
    there = {"listeners": "gateway", "clusters": "upstream"}[kind]
    with pytest.raises(InputError, match=rf"static_resources\.{kind}: nothing is named 'other' \(there are: {there}\)"):
        with_endpoints(PLAIN_PROXY, listeners=asked["listeners"], clusters=asked["clusters"])


@pytest.mark.parametrize("text", ["a: [", "- a list", ""])
def test_what_is_no_bootstrap_is_bad_input(text: str) -> None:
    """Text that is no mapping in YAML gives a message, not a traceback."""
    with pytest.raises(InputError, match="envoy configuration"):
        parse(text)

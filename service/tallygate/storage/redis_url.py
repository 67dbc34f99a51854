"""Reading the URL of Redis, in each of its forms.

- `redis://[user:password@]host[:6379][/db]`, `rediss://` with TLS
- `redis+cluster://[user:password@]host[:6379][,host[:port]…]`
- `redis+sentinel://[user:password@]host[:26379][,host[:port]…]/master_name[/db]`

`rediss+cluster` and `rediss+sentinel` are the same with TLS. With TLS, `?ssl_ca_certs=FILE&ssl_certfile=FILE&
ssl_keyfile=FILE` may follow. A user name or password is percent-encoded; it goes to Redis, not to sentinels.
Pure. Failure: InputError, whose text never repeats the URL, for it may hold a password.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NoReturn
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from tallygate.core.errors import InputError

FIELD = "TALLYGATE_REDIS_URL"
_SHAPES = (
    "redis://host:6379/0, rediss://host:6379/0, redis+cluster://host:6379,host:6379 "
    "or redis+sentinel://host:26379,host:26379/master_name/0"
)
_TLS_OPTIONS = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
_REDIS_PORT = 6379
_SENTINEL_PORT = 26379
_MAX_PORT = 65535


class RedisForm(StrEnum):
    """How Redis is deployed: the part of the scheme after the plus sign."""

    SINGLE = ""
    CLUSTER = "cluster"
    SENTINEL = "sentinel"


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where Redis is and how to log in. `nodes` are (host, port): the server, or seeds, or sentinels."""

    form: RedisForm
    nodes: tuple[tuple[str, int], ...]
    is_tls: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    database: int = 0
    master: str = ""
    tls_files: tuple[tuple[str, str], ...] = ()


def parse_redis_url(url: str) -> RedisAddress:
    """Read a URL; raise InputError saying what is wrong and what would be right."""
    try:
        parts = urlsplit(url)
    except ValueError:
        _refuse("it is not a URL")
    scheme, _, form_name = parts.scheme.partition("+")
    if scheme not in {"redis", "rediss"} or form_name not in set(RedisForm) or parts.scheme.endswith("+"):
        _refuse(f"the scheme {parts.scheme!r} is not known")
    if parts.fragment:
        _refuse("it has a fragment; a # within a password is written %23")
    form = RedisForm(form_name)
    login, _, hosts = parts.netloc.rpartition("@")
    username, _, password = login.partition(":")
    master, database = _path(form, parts.path)
    return RedisAddress(
        form=form,
        nodes=_nodes(form, hosts),
        is_tls=scheme == "rediss",
        username=unquote(username) or None,
        password=unquote(password) or None,
        database=database,
        master=master,
        tls_files=_tls_files(parts, is_tls=scheme == "rediss"),
    )


def _nodes(form: RedisForm, hosts: str) -> tuple[tuple[str, int], ...]:
    nodes = tuple(_node(form, host) for host in hosts.split(","))
    if form is RedisForm.SINGLE and len(nodes) > 1:
        _refuse("it names several hosts; a cluster is redis+cluster://, sentinels are redis+sentinel://")
    return nodes


def _node(form: RedisForm, text: str) -> tuple[str, int]:
    default = _SENTINEL_PORT if form is RedisForm.SENTINEL else _REDIS_PORT
    if text.startswith("["):  # an IPv6 address
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            _refuse("an IPv6 address is written [::1]:6379")
        port = rest[1:]
    else:
        host, _, port = text.partition(":")
    if not host:
        _refuse("a host is missing")
    if not port:
        return unquote(host), default
    if not port.isascii() or not port.isdigit() or not 0 < int(port) <= _MAX_PORT:
        _refuse("a port is not a number from 1 to 65535; a : or @ within a password is written %3A or %40")
    return unquote(host), int(port)


def _path(form: RedisForm, path: str) -> tuple[str, int]:
    """Return the master's name and the database."""
    segments = [segment for segment in path.split("/") if segment]
    master = ""
    if form is RedisForm.SENTINEL:
        if not segments:
            _refuse("the master's name is missing")
        master = unquote(segments.pop(0))
    if not segments:
        return master, 0
    database = segments.pop(0)
    if segments or not database.isascii() or not database.isdigit():
        _refuse("the path is not the number of a database")
    if form is RedisForm.CLUSTER and int(database):
        _refuse("a cluster has database 0 only")
    return master, int(database)


def _tls_files(parts: SplitResult, *, is_tls: bool) -> tuple[tuple[str, str], ...]:
    options = tuple(parse_qsl(parts.query, keep_blank_values=True))
    for name, value in options:
        if not is_tls or name not in _TLS_OPTIONS or not value:
            _refuse(f"the option {name!r} is not known here")
    return options


def _refuse(problem: str) -> NoReturn:
    raise InputError(FIELD, problem, f"write {_SHAPES}")

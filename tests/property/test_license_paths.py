"""No spelling of a path walks around the rule that protects it."""

import posixpath
from urllib.parse import unquote

from hypothesis import given
from hypothesis import strategies as st

from tallygate.licenses.routes import RouteRule, RouteTable, normal_path

PROTECTED = RouteRule("*", "/v1/admin/**", scope="admin")
OPEN = RouteRule("*", "/**")
TABLE = RouteTable((PROTECTED, OPEN))

_PIECES = [
    "/", "//", ".", "..", "%2e", "%2E", "%2f", "%2F", "\\", "%5c", ";", "%3b", "#", "%23", "?", "%3f", "%00", "%09",
    "%25", "%252e", "%252f", "%", "%c0%ae", "%c0%af", "%e9", "%c3%a9", "v1", "V1", "%761", "admin", "%61dmin",
    "ad%6din", "adm%69n", "things", " ", "%20", "+", "*", "%2a", "x",
]  # fmt: skip
TARGETS = st.lists(st.sampled_from(_PIECES), max_size=10).map(lambda pieces: "/" + "".join(pieces))


def read_as(path: str, *, times: int, cuts_parameters: bool, is_lenient: bool) -> str:
    """Read a path as an upstream may: decoding it, once or again, before or after cutting and merging."""
    for _ in range(times):
        path = unquote(path, errors="replace")
    if is_lenient:
        path = path.replace("\\", "/").split("#")[0].split("\0")[0]
        path = "".join(character for character in path if character.isprintable())
    if cuts_parameters:
        path = "/".join(segment.split(";")[0] for segment in path.split("/"))
    return posixpath.normpath("/" + path.lstrip("/"))


@given(
    target=TARGETS,
    times=st.integers(0, 2),
    cuts_parameters=st.booleans(),
    is_lenient=st.booleans(),
)
def test_what_an_upstream_reads_is_what_the_rule_was_matched_on(
    target: str, *, times: int, cuts_parameters: bool, is_lenient: bool
) -> None:
    """A path that reaches a protected part of any upstream is refused or meets the protecting rule."""
    path = normal_path(target)
    if path is None:
        return
    seen = read_as(target.partition("?")[0], times=times, cuts_parameters=cuts_parameters, is_lenient=is_lenient)
    is_protected = seen == "/v1/admin" or seen.startswith("/v1/admin/")
    if is_protected:
        assert TABLE.match("GET", path) is PROTECTED
    elif times > 0:
        assert TABLE.match("GET", path) is OPEN


@given(target=TARGETS)
def test_the_normal_form_is_stable_and_unique(target: str) -> None:
    """Normalising twice changes nothing, and two normal forms that decode alike are the same text."""
    path = normal_path(target)
    if path is not None:
        assert normal_path(path) == path
        assert normal_path(target + "?query") == path
        everything_encoded = "/" + "/".join(
            "".join(f"%{octet:02x}" for octet in unquote(segment).encode()) for segment in path[1:].split("/")
        )
        assert normal_path(everything_encoded) in (path, None)


@given(st.text(max_size=30))
def test_any_text_is_taken(target: str) -> None:
    """No target whatever raises: the answer to nonsense is a refusal, not an error of ours."""
    path = normal_path("/" + target)
    assert path is None or path.startswith("/")

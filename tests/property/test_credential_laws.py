"""Laws of finding a credential that hold for every request."""

from hypothesis import assume, given
from hypothesis import strategies as st

from tallygate.credentials.extract import (
    AmbiguousCredential,
    Credential,
    CredentialPlaces,
    NoCredential,
    Places,
    extract,
)

PLACES = CredentialPlaces(query_parameter="key", cookie="key")
tokens = st.from_regex(r"[0-9A-Za-z_]{1,40}", fullmatch=True)
values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)


@given(
    st.dictionaries(
        st.sampled_from(["authorization", "x-api-key", "cookie", "accept"]), values | values.map("Bearer {}".format)
    ),
    values.map("/?{}".format) | values,
)
def test_extracting_never_fails(headers: dict[str, str], target: str) -> None:
    """Whatever a client sends, there is an answer and no exception."""
    assert isinstance(extract(headers, target, PLACES), Credential | NoCredential | AmbiguousCredential)


@given(tokens, st.sets(st.sampled_from(["authorization", "x-api-key", "query", "cookie"]), min_size=1))
def test_a_token_is_found_wherever_it_stands_and_nothing_of_it_is_left(token: str, where: set[str]) -> None:
    """Any set of places with one token gives that token, and each of its places is removed."""
    headers = {"accept": "*/*"}
    if "authorization" in where:
        headers["authorization"] = f"Bearer {token}"
    if "x-api-key" in where:
        headers["x-api-key"] = token
    if "cookie" in where:
        headers["cookie"] = f"a=1; key={token}"
    found = extract(headers, f"/x?key={token}" if "query" in where else "/x", PLACES)
    assert isinstance(found, Credential)
    assert found.text == token
    assert set(found.remove_headers) == where & {"authorization", "x-api-key"}
    assert found.remove_query == (("key",) if "query" in where else ())
    assert found.set_cookie_header == ("a=1" if "cookie" in where else None)


@given(tokens, tokens, st.permutations(["authorization", "x-api-key", "query", "cookie"]))
def test_different_tokens_are_never_silently_chosen_between(one: str, other: str, places: list[str]) -> None:
    """Whichever two places hold different tokens, the request is ambiguous."""
    assume(one != other)
    put = {places[0]: one, places[1]: other}
    headers: dict[str, str] = {}
    if "authorization" in put:
        headers["authorization"] = f"DPoP {put['authorization']}"
    if "x-api-key" in put:
        headers["x-api-key"] = put["x-api-key"]
    if "cookie" in put:
        headers["cookie"] = f"key={put['cookie']}"
    target = f"/?key={put['query']}" if "query" in put else "/"
    assert isinstance(extract(headers, target, PLACES), AmbiguousCredential)


@given(
    st.lists(
        st.tuples(
            st.dictionaries(
                st.sampled_from(["authorization", "x-api-key", "cookie", "accept"]),
                st.sampled_from(["", "Bearer", "Bearer one", "one", "two", "key=one", "a,b", "x" * 300]) | values,
            ),
            st.sampled_from(["/", "/?key=one", "/?key=two&key=one", "/?key="]),
        ),
        max_size=8,
    ),
    st.sampled_from([CredentialPlaces(), PLACES]),
)
def test_what_is_remembered_is_what_would_be_found(
    asked: list[tuple[dict[str, str], str]], configured: CredentialPlaces
) -> None:
    """However requests follow one another, each is told what it would be told alone."""
    places = Places(configured)
    for headers, target in asked * 2:
        assert places.extract(headers, target) == extract(headers, target, configured)

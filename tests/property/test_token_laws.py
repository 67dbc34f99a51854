"""Laws of token text that hold for every body."""

from hypothesis import given
from hypothesis import strategies as st

from tallygate.tokens.format import ALPHABET, BODY_LENGTH, Environment, TokenFormat, checksum

FORMAT = TokenFormat()
bodies = st.text(ALPHABET, min_size=BODY_LENGTH, max_size=BODY_LENGTH)


@given(bodies, st.sampled_from(Environment))
def test_what_is_composed_is_read_back(body: str, environment: Environment) -> None:
    """Every body gives a token that parses to itself."""
    token = FORMAT.compose(environment, body)
    assert FORMAT.parse(token.text) == token
    assert len(checksum(body)) == 6


@given(bodies, st.integers(0, 35), st.sampled_from(ALPHABET))
def test_one_wrong_character_is_always_noticed(body: str, place: int, character: str) -> None:
    """A CRC finds every burst of errors within 32 bits, so no single mistyped character passes."""
    text = FORMAT.compose(Environment.LIVE, body).text
    at = len("tg_live_") + place
    mistyped = text[:at] + character + text[at + 1 :]
    assert (FORMAT.parse(mistyped) is None) == (mistyped != text)


@given(bodies, st.integers(0, 28))
def test_swapped_neighbours_are_always_noticed(body: str, place: int) -> None:
    """Two characters typed in the wrong order are refused before any look-up."""
    swapped = body[:place] + body[place + 1] + body[place] + body[place + 2 :]
    text = f"tg_live_{swapped}{checksum(body)}"
    assert (FORMAT.parse(text) is None) == (swapped != body)


@given(st.text())
def test_reading_never_fails(text: str) -> None:
    """Whatever a client sends, parse answers and does not raise."""
    assert FORMAT.parse(text) is None

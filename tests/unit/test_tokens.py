"""What tokens promise as text, as digests, and to whoever prints them."""

import hmac
import re
from hashlib import sha256

import pytest

from tallygate.tokens.digest import MINIMUM_PEPPER_CHARS, Pepper, Peppers
from tallygate.tokens.format import Environment, TokenFormat, checksum
from tallygate.tokens.mint import mint

BODY = "zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ"
TOKEN = "tg_live_" + BODY + "0mLq17"


def test_the_checksum_agrees_with_a_published_sample_of_another_vendor() -> None:
    """GitHub published ghp_zQWB…0mLq17: our checksum of its body is the one at its end, padding included."""
    assert checksum(BODY) == "0mLq17"


def test_a_right_token_is_read() -> None:
    """A token with the right checksum is taken, with its environment."""
    token = TokenFormat().parse(TOKEN)
    assert token is not None
    assert token.environment is Environment.LIVE
    assert token.text == TOKEN


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tg_live_",
        TOKEN[:-1],
        TOKEN + "0",
        TOKEN + "\n",
        " " + TOKEN,
        TOKEN.upper(),
        TOKEN.replace("live", "prod"),
        TOKEN.replace("tg_", "gh_"),
        TOKEN[:-1] + "8",
        TOKEN[:-1] + "\uff17",
        TOKEN[:10] + "-" + TOKEN[11:],
        "tg_live_" + BODY[1] + BODY[0] + BODY[2:] + "0mLq17",
        "x" * 100_000,
    ],
)
def test_anything_else_is_refused_without_a_look_up(text: str) -> None:
    """A wrong form, length, alphabet, environment, prefix or checksum is no token."""
    assert TokenFormat().parse(text) is None


def test_the_prefix_is_a_setting() -> None:
    """With another prefix its own tokens are read and those of the default prefix are not."""
    other = TokenFormat("acme")
    text = other.compose(Environment.TEST, BODY).text
    assert text == f"acme_test_{BODY}0mLq17"
    assert other.parse(text) is not None
    assert other.parse(TOKEN) is None
    assert re.fullmatch(other.pattern, text)


@pytest.mark.parametrize("prefix", ["", "a_b", "t g", "é", "tg\n", ".*"])
def test_a_prefix_that_would_blur_the_format_is_refused(prefix: str) -> None:
    """Only letters and digits: anything else could match what is no token of ours."""
    with pytest.raises(ValueError, match="not a prefix"):
        TokenFormat(prefix)


def test_a_minted_token_is_made_of_what_was_chosen() -> None:
    """The body is 30 independent choices from base62 and nothing else."""
    alphabets: list[str] = []

    def choose(alphabet: str) -> str:
        alphabets.append(alphabet)
        return alphabet[len(alphabets)]

    token = mint(TokenFormat(), Environment.TEST, choose)
    assert token.text.startswith("tg_test_123456789ABCDEFGHIJKLMNOPQRSTU")
    assert len(alphabets) == 30
    assert {len(set(alphabet)) for alphabet in alphabets} == {62}


def test_minted_tokens_differ_and_are_valid() -> None:
    """The system's entropy makes tokens that parse and do not repeat."""
    token_format = TokenFormat()
    tokens = {mint(token_format, Environment.LIVE).text for _ in range(200)}
    assert len(tokens) == 200
    assert all(token_format.parse(text) for text in tokens)


def test_a_digest_is_an_hmac_of_the_whole_token() -> None:
    """At rest stands HMAC-SHA-256(pepper, token), 32 bytes, as another implementation computes it."""
    token = TokenFormat().compose(Environment.LIVE, BODY)
    pepper = Pepper("p" * 40)
    digest = pepper.digest(token)
    assert digest.value == hmac.new(b"p" * 40, TOKEN.encode(), sha256).digest()
    assert digest.pepper_id == pepper.id


def test_the_pepper_s_id_tells_peppers_apart_and_nothing_else() -> None:
    """The id is short, steady, different for different peppers, and no part of the secret."""
    secret = "a-long-secret-that-nobody-knows-really"
    assert Pepper(secret).id == Pepper(secret).id
    assert re.fullmatch("[0-9a-f]{8}", Pepper(secret).id)
    assert Pepper(secret).id != Pepper(secret + "!").id
    assert Pepper(secret).id != sha256(secret.encode()).hexdigest()[:8]


def test_a_short_pepper_is_refused() -> None:
    """A pepper that could be guessed protects nothing; one of the least length is taken."""
    Pepper("x" * MINIMUM_PEPPER_CHARS)
    with pytest.raises(ValueError, match="at least 32"):
        Pepper("x" * (MINIMUM_PEPPER_CHARS - 1))


def test_while_a_pepper_is_rotated_both_digests_are_looked_up() -> None:
    """Tokens stored under the previous pepper keep working; new ones get the current pepper."""
    token = TokenFormat().compose(Environment.LIVE, BODY)
    new, old = Pepper("n" * 32), Pepper("o" * 32)
    assert Peppers(new).candidates(token) == (new.digest(token).value,)
    both = Peppers(new, old)
    assert both.current is new
    assert both.candidates(token) == (new.digest(token).value, old.digest(token).value)


def test_no_secret_is_printed() -> None:
    """The repr of a token and of a pepper, as a log or a traceback shows them, holds nothing secret."""
    token = TokenFormat().compose(Environment.LIVE, BODY)
    pepper = Pepper("secret-pepper-" * 3)
    assert BODY not in repr(token)
    assert "secret-pepper" not in repr(pepper)
    assert BODY not in repr(pepper.digest(token))

"""Minting: a new token from the operating system's entropy."""

import secrets
from collections.abc import Callable

from tallygate.tokens.format import ALPHABET, BODY_LENGTH, Environment, TokenFormat, TokenText


def mint(
    token_format: TokenFormat,
    environment: Environment,
    choose: Callable[[str], str] = secrets.choice,
) -> TokenText:
    """Return a new token; `choose` picks one character and must be cryptographically random."""
    body = "".join(choose(ALPHABET) for _ in range(BODY_LENGTH))
    return token_format.compose(environment, body)

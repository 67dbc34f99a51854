"""Settings that are secret, as the parts that need them take them."""

from pydantic import SecretStr

from tallygate.settings import Settings
from tallygate.tokens.digest import Pepper, Peppers


def plain(secret: SecretStr | None) -> str:
    """Return the text of a setting that `settings.require` has seen to be given."""
    assert secret is not None  # noqa: S101 - `require` has seen to it
    return secret.get_secret_value()


def peppers(values: Settings) -> Peppers:
    """Return the keys of token digests: the one in use, and the one before while it is given."""
    previous = None if values.pepper_previous is None else Pepper(plain(values.pepper_previous))
    return Peppers(Pepper(plain(values.pepper)), previous)

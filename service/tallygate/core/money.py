"""Money: an exact decimal and the currency it is in."""

import re
from dataclasses import dataclass
from decimal import Decimal

# Decimal() alone would also take exponents, underscores, other scripts' digits, and -0.
_AMOUNT = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,12})?")
_CURRENCY = re.compile(r"[A-Z]{3}")


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in a currency's major unit (49.00 USD), never a float."""

    amount: Decimal
    currency: str

    @classmethod
    def parse(cls, amount: str, currency: str) -> "Money":
        """Read a plain decimal string and an ISO 4217 code; raise ValueError saying what is wrong."""
        if not _AMOUNT.fullmatch(amount):
            message = f"{amount!r} is not a decimal amount of zero or more, such as 49.00"
            raise ValueError(message)
        if not _CURRENCY.fullmatch(currency):
            message = f"{currency!r} is not an ISO 4217 code such as USD"
            raise ValueError(message)
        return cls(Decimal(amount), currency)

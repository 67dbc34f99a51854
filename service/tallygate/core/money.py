"""Money: an exact decimal and the currency it is in.

Owns how many decimals a currency has, and the one way of rounding to them. Sums are worked out exactly (`EXACT`
raises rather than round) and rounded once, where an amount becomes a line of a bill.
"""

import re
from dataclasses import dataclass
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow
from fractions import Fraction

# Decimal() alone would also take exponents, underscores, other scripts' digits, and -0.
_AMOUNT = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,12})?")
_CURRENCY = re.compile(r"[A-Z]{3}")
# ISO 4217, minor units other than 2.
_WHOLE = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_THOUSANDTHS = "BHD IQD JOD KWD LYD OMR TND"
_TEN_THOUSANDTHS = "CLF UYW"
_DECIMALS = dict.fromkeys(_WHOLE.split(), 0)
_DECIMALS |= dict.fromkeys(_THOUSANDTHS.split(), 3) | dict.fromkeys(_TEN_THOUSANDTHS.split(), 4)
EXACT = Context(
    prec=120, Emin=MIN_EMIN, Emax=MAX_EMAX, traps=[Inexact, InvalidOperation, DivisionByZero, Overflow]
)  # fmt: skip
"""Arithmetic that holds every product and sum of prices and units, and raises where it could not."""


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


def minor_unit(currency: str) -> Decimal:
    """Return the smallest amount of a currency that is paid: 0.01 USD, 1 JPY, 0.001 KWD."""
    return Decimal(1).scaleb(-_DECIMALS.get(currency, 2))


def rounded(amount: Decimal | Fraction, currency: str) -> Decimal:
    """Return an amount in whole minor units of its currency, a half going to the even neighbour."""
    unit = minor_unit(currency)
    return EXACT.multiply(Decimal(round(Fraction(amount) / Fraction(unit))), unit)

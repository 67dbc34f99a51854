"""What money promises: exact amounts, real currencies, and no other spelling."""

from decimal import Decimal, Inexact

import pytest

from tallygate.core.money import EXACT, Money, minor_unit, rounded


@pytest.mark.parametrize("amount", ["0", "49", "49.00", "0.0004", "999999999999999.999999999999"])
def test_an_amount_is_kept_exactly(amount: str) -> None:
    """What is written is what is charged: no float lies between."""
    money = Money.parse(amount, "USD")
    assert money.amount == Decimal(amount)
    assert money.currency == "USD"


@pytest.mark.parametrize(
    "amount",
    [
        "",
        " ",
        "-1",
        "-0",
        "+1",
        "1e3",
        "1E400000",
        "1_000",
        "1,5",
        ".5",
        "5.",
        "NaN",
        "Infinity",
        " 1",
        "1\n",
        "\uff14\uff19",
        "0x10",
    ],
)
def test_anything_but_a_plain_decimal_is_refused(amount: str) -> None:
    """Exponents, signs, separators and other scripts' digits are no amounts."""
    with pytest.raises(ValueError, match="not a decimal amount"):
        Money.parse(amount, "USD")


@pytest.mark.parametrize("currency", ["", "usd", "US", "USDT", "U1D", "ÄÖÜ", "USD\n", "\uff35\uff33\uff24"])
def test_anything_but_a_currency_code_is_refused(currency: str) -> None:
    """Three capital ASCII letters, as ISO 4217 has them."""
    with pytest.raises(ValueError, match="not an ISO 4217 code"):
        Money.parse("1", currency)


def test_equal_money_is_equal() -> None:
    """49 and 49.00 of one currency are the same; of two currencies they are not."""
    assert Money.parse("49", "USD") == Money.parse("49.00", "USD")
    assert Money.parse("49", "USD") != Money.parse("49", "EUR")


@pytest.mark.parametrize(
    ("amount", "currency", "expected"),
    [
        ("27.0967", "USD", "27.10"),
        ("0.125", "USD", "0.12"),
        ("0.135", "USD", "0.14"),
        ("-0.125", "USD", "-0.12"),
        ("2.5", "JPY", "2"),
        ("3.5", "JPY", "4"),
        ("1.2345", "KWD", "1.234"),
        ("0.00005", "CLF", "0.0000"),
        ("49", "EUR", "49.00"),
    ],
)
def test_an_amount_is_rounded_to_its_currency_s_coins(amount: str, currency: str, expected: str) -> None:
    """Half to even, in the minor units of ISO 4217: two decimals, none, three or four."""
    assert str(rounded(Decimal(amount), currency)) == expected


def test_a_coin_is_what_iso_4217_says() -> None:
    """The exceptions are those of the standard's list; what is not among them has hundredths."""
    coins = {code: str(minor_unit(code)) for code in ("USD", "JPY", "KRW", "BHD", "CLF", "XYZ")}
    assert coins == {"USD": "0.01", "JPY": "1", "KRW": "1", "BHD": "0.001", "CLF": "0.0001", "XYZ": "0.01"}


def test_exact_arithmetic_does_not_round() -> None:
    """It raises where a digit would be lost."""
    with pytest.raises(Inexact):
        EXACT.divide(Decimal(1), Decimal(3))

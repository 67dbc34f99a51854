"""Numbers as people read them: 12.3 k, 4.1 ms, 1.2 MiB, by Grafana's names of units.

Pure. Knows the units that our dashboards use; any other is put behind the number as it is.
"""

import math

_DECIMAL = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_BINARY = ((2.0**40, " TiB"), (2.0**30, " GiB"), (2.0**20, " MiB"), (2.0**10, " KiB"))
_LONG = ((86_400.0, " d"), (3_600.0, " h"), (60.0, " min"), (1.0, " s"))
_BRIEF = ((1.0, " s"), (1e-3, " ms"), (1e-6, " µs"), (1e-9, " ns"))
_CURRENCIES = {"currencyUSD": "$", "currencyEUR": "€", "currencyGBP": "£"}
_AFTER = {"percent": " %", "reqps": " req/s", "ops": " ops/s", "cps": " /s", "cores": " cores"}
_TWO_MINUTES_S, _HUNDRED, _TEN = 120.0, 100.0, 10.0


def human(value: float, unit: str, decimals: int | None = None) -> str:
    """Return a value with its unit; three digits unless `decimals` says how many stand behind the point."""
    if not math.isfinite(value):
        return "-" if math.isnan(value) else "∞" if value > 0 else "-∞"
    if value < 0:
        return f"-{human(-value, unit, decimals)}"
    match unit:
        case "s" | "ms":
            return _duration(value / (1000 if unit == "ms" else 1), decimals)
        case "bytes":
            return _scaled(value, (*_BINARY, (1.0, " B")), decimals)
        case "percentunit":
            return f"{_digits(value * 100, decimals)} %"
        case _:
            text = f"{value:,.{decimals or 0}f}" if unit == "locale" else _scaled(value, _DECIMAL, decimals)
            return _CURRENCIES.get(unit, "") + text + _AFTER.get(unit, "")


def _duration(value_s: float, decimals: int | None) -> str:
    if value_s >= _TWO_MINUTES_S:
        return _scaled(value_s, _LONG, decimals)
    return _scaled(value_s, _BRIEF, decimals) if value_s > 0 else "0 s"


def _scaled(value: float, steps: tuple[tuple[float, str], ...], decimals: int | None) -> str:
    for size, name in steps:
        if value >= size:
            return _digits(value / size, decimals if size == 1 or decimals is None else max(1, decimals)) + name
    return _digits(value / steps[-1][0], decimals) + steps[-1][1]


def _digits(value: float, decimals: int | None) -> str:
    """Return three digits or so, no zeros at the end; with `decimals`, exactly so many behind the point."""
    if decimals is not None:
        return f"{value:.{decimals}f}"
    places = 0 if value >= _HUNDRED else 1 if value >= _TEN else 2 if value >= 1 else 3
    text = f"{value:.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text

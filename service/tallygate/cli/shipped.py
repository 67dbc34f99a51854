"""Files that come with Tallygate: from the wheel, or from the checkout it runs in."""

from importlib.resources import files
from pathlib import Path

from tallygate.core.errors import InputError

_CHECKOUT = Path(__file__).parents[3]


def shipped(name: str) -> str:
    """Return the text of a shipped file such as `examples/plans.yaml`."""
    packed = files("tallygate") / "_shipped" / name
    if packed.is_file():
        return packed.read_text(encoding="utf-8")
    path = _CHECKOUT / name
    if path.is_file():
        return path.read_text(encoding="utf-8")
    raise InputError(name, "is missing from this installation", "install tallygate again")

"""Which header names Envoy's matchers let through.

Pure. Owns the reading of StringMatcher lists and of header mutation rules. In doubt, as with an expression that Python
cannot read, a name counts as matched: doctor reports what it is sure of.
"""

import re

from tallygate.doctor.place import Place

CREDENTIALS = ("authorization", "x-api-key")
IDENTITY = "x-tallygate-customer"
CLAIM = "x-tallygate-made-up"  # overwritten by nothing, for Tallygate sets no such header
UNDERSCORED = "x_tallygate_customer"
FAILURE_MODE = "x-envoy-auth-failure-mode-allowed"
CLIENT_ADDRESS = "x-envoy-external-address"


def matches(matcher: Place, name: str) -> bool:
    """Return whether a StringMatcher matches a header's name, which is in lower case."""
    exact, prefix, suffix, part = (matcher.text(kind).lower() for kind in ("exact", "prefix", "suffix", "contains"))
    if exact or prefix or suffix or part:
        has_ends = name.startswith(prefix) and name.endswith(suffix)
        return has_ends and part in name and exact in {"", name}
    return _fullmatch(matcher.text("safe_regex", "regex"), name)


def is_told(check: Place, name: str) -> bool:
    """Return whether an ext_authz filter passes a header of this name on to Tallygate."""
    withheld = check.items_at("disallowed_headers", "patterns")
    if any(matches(one, name) for one in withheld):
        return False
    allowed = check.at("allowed_headers")
    return allowed is None or any(matches(one, name) for one in allowed.items_at("patterns"))


def may_change(rules: Place | None, name: str) -> bool:
    """Return whether header mutation rules let Tallygate set or remove a header of this name."""
    if rules is None:
        return True
    if rules.at("disallow_expression") and _fullmatch(rules.text("disallow_expression", "regex"), name):
        return False
    if rules.at("allow_expression") and _fullmatch(rules.text("allow_expression", "regex"), name):
        return True
    return not rules.is_true("disallow_all")


def _fullmatch(expression: str, name: str) -> bool:
    try:
        return not expression or re.fullmatch(expression, name) is not None
    except re.error:
        return True

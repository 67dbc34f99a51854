"""How REST says what the use cases say in the words of the command line: members for options, addresses for commands.

One place, so that the use cases need not know who asks. A command that is not in `_ADDRESSES` is left as it
is; a test sees to it that every one a use case names is there.
"""

import re

MEMBERS = {"env": "environment", "expires": "expires_at", "grace": "grace_s"}
"""What the use cases' own words are called in bodies."""
_ADDRESSES = {
    "audit verify": "GET /v1/audit/verify",
    "customers list": "GET /v1/customers",
    "plans list": "GET /v1/plans",
    "plans shadow start": "POST /v1/plans/{key}/shadow",
    "subscriptions create": "POST /v1/subscriptions",
    "subscriptions list": "GET /v1/subscriptions",
    "subscriptions show": "GET /v1/subscriptions/{subscription}",
    "tokens list": "GET /v1/tokens",
}
COMMAND = re.compile(r"`tallygate ([a-z -]+)`")
_OPTION = re.compile(r"--([a-z]+)")


def in_rest(mend: str) -> str:
    """Return what to do about an error, in the words of REST."""
    named = COMMAND.sub(lambda match: f"`{_ADDRESSES[match[1]]}`" if match[1] in _ADDRESSES else match[0], mend)
    return _OPTION.sub(lambda match: f"`{MEMBERS.get(match[1], match[1])}`", named)

"""Credentials cut out of text, whoever wrote it: what looks like one of our tokens or keys, and passwords of URLs."""

import re

_TOKEN_LIKE = re.compile(r"([A-Za-z0-9]{1,16}_(?:live|test)_|tga_)[0-9A-Za-z]{20,}")
_URL_PASSWORD = re.compile(r"(://[^:/@\s]*:)[^@/\s]+@")
HIDDEN = "[hidden]"


def hide_secrets(text: str) -> str:
    """Cut tokens, and passwords of URLs, out of `text`."""
    return _URL_PASSWORD.sub(rf"\1{HIDDEN}@", _TOKEN_LIKE.sub(rf"\1{HIDDEN}", text))

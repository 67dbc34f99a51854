"""Print docs/configuration.md, made from `settings.py`: `python .ci/configuration.py > docs/configuration.md`."""

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from tallygate.settings import PREFIX, Settings

_HEAD = """# Configuration

Settings come from, the later winning: the defaults here, a TOML file (`tallygate --config FILE …`, or the file that
`TALLYGATE_CONFIG` names; keys in lower case without the prefix), and the environment. A variable with `_FILE` added
names a file that holds the value, as secret stores mount them. No secret has a default.

`tallygate config show` prints every setting with its value and source, secrets masked; `tallygate config check` says
whether `serve` could start. A wrong setting stops the start, and all wrong ones are named at once.

This page is made from `service/tallygate/settings.py` by `.ci/configuration.py`; a test fails when it is stale.

| setting | default | meaning |
|---|---|---|
"""


def page() -> str:
    """Return the whole page."""
    return _HEAD + "".join(_row(name, field) for name, field in Settings.model_fields.items())


def _row(name: str, field: FieldInfo) -> str:
    is_secret = SecretStr in getattr(field.annotation, "__args__", ())
    default = "" if field.default is None else f"`{field.default}`"
    return f"| `{PREFIX}{name.upper()}` | {'(secret)' if is_secret else default} | {field.description} |\n"


if __name__ == "__main__":
    print(page(), end="")

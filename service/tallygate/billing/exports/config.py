"""The file that says which exports there are (`EXPORTS_FILE`, TOML): a table for each, `[exports.NAME]`.

Owns what may stand in it, and the reading of the keys it names, in files or in the environment: keys stand in no table
and in no database. Every mistake is named at once. Docs: docs/exports.md.
"""

import importlib.util
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SecretStr, TypeAdapter, ValidationError

from tallygate.billing.exports.cloudevents import SECRET_PREFIX, secret_bytes
from tallygate.billing.exports.columns import Shape
from tallygate.billing.exports.files import Format
from tallygate.billing.exports.terms import Terms
from tallygate.core.errors import InputError

FIELD = "TALLYGATE_EXPORTS_FILE"
_NAME = "^[a-z][a-z0-9_-]{0,62}$"
_Meter = Annotated[str, Field(pattern=_NAME)]
_Url = Annotated[str, Field(pattern=r"^https?://[^\s/]+(/\S*)?$", max_length=500)]
_EXPORT_NAME = TypeAdapter(Annotated[str, Field(pattern=_NAME)])


class _Export(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = ""
    outcomes: Literal["all", "allowed", "overage"] = "all"
    environment: Literal["all", "live", "test"] = "live"
    from_at: AwareDatetime | None = Field(None, alias="from")

    def terms(self, *, subject: str = "key", meters: Mapping[str, str] | None = None) -> Terms:
        """Return which entries are told."""
        return Terms(subject, meters, self.outcomes, self.environment, self.from_at)


class _Called(_Export):
    """What all have in common who are called."""

    subject: str = Field("key", pattern="^(id|key|subscription|reference:[a-z][a-z0-9_-]{0,62})$")
    meters: dict[_Meter, Annotated[str, Field(min_length=1, max_length=100)]] | None = None
    deadline_s: float = Field(10, gt=0, le=120)
    key_file: Path | None = None
    key_env: str | None = None
    key: SecretStr = SecretStr("")

    def told(self) -> Terms:
        """Return which entries are told, and under which names."""
        return self.terms(subject=self.subject, meters=self.meters)


class StripeExport(_Called):
    """Meter events of Stripe."""

    kind: Literal["stripe"]
    url: _Url = "https://api.stripe.com"
    subject: str = Field("reference:stripe", pattern="^(id|key|reference:[a-z][a-z0-9_-]{0,62})$")


class LagoExport(_Called):
    """Events of Lago; `subject` is what Lago calls `external_subscription_id`."""

    kind: Literal["lago"]
    url: _Url = "https://api.getlago.com"
    subject: str = Field("subscription", pattern="^(id|key|subscription|reference:[a-z][a-z0-9_-]{0,62})$")


class OpenMeterExport(_Called):
    """Events of OpenMeter."""

    kind: Literal["openmeter"]
    url: _Url = "https://openmeter.cloud"
    source: str = Field("tallygate", min_length=1, max_length=200)


class CloudEventsExport(_Called):
    """Events of any receiver of CloudEvents; `secret` signs each call."""

    kind: Literal["cloudevents"]
    url: _Url
    source: str = Field("tallygate", min_length=1, max_length=200)
    secret_file: Path | None = None
    secret_env: str | None = None
    secret: SecretStr = SecretStr("")


class FilesExport(_Export):
    """A file a day."""

    kind: Literal["files"]
    directory: Path
    meters: Annotated[list[_Meter], Field(min_length=1)] | None = None
    format: Format = Format.CSV
    columns: Shape = Shape.LEDGER

    def told(self) -> Terms:
        """Return which entries are written."""
        return self.terms(meters=None if self.meters is None else {meter: meter for meter in self.meters})


Export = StripeExport | LagoExport | OpenMeterExport | CloudEventsExport | FilesExport
_EXPORT: TypeAdapter[Export] = TypeAdapter(Annotated[Export, Field(discriminator="kind")])
_OURS = {"name", "key", "secret"}
_ANY_SECRET = SECRET_PREFIX + "A" * 32


def read(path: Path, environment: Mapping[str, str]) -> tuple[Export, ...]:
    """Return the exports of a file, their keys read; raise InputError naming every mistake."""
    try:
        with path.open("rb") as file:
            given = tomllib.load(file)
    except OSError as error:
        raise InputError(FIELD, f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(FIELD, f"{path} is not TOML: {error}") from None
    tables = given.pop("exports", None)
    problems = [f"{name}: there is no such table; write [exports.NAME]" for name in given]
    if not isinstance(tables, dict):
        raise InputError(FIELD, f"{path} has no exports", "write a table [exports.NAME] for each")
    reader = _Reader(path.parent, environment, problems)
    found = [reader.export(str(name), table) for name, table in tables.items()]
    if problems:
        raise InputError(FIELD, "\n  ".join([f"in {path} these are wrong:", *problems]))
    return tuple(export for export in found if export is not None)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads the tables of one file, which stands `beside` what it names; notes every mistake."""

    beside: Path
    environment: Mapping[str, str]
    problems: list[str]

    def export(self, name: str, table: object) -> Export | None:
        """Return an export; None if its table is wrong."""
        where = f"exports.{name}"
        if isinstance(table, dict) and _OURS & table.keys():
            named = min(_OURS & table.keys())
            self.problems.append(f"{where}.{named}: does not belong here; name a file or a variable that holds it")
            return None
        try:
            _EXPORT_NAME.validate_python(name)
            export = _EXPORT.validate_python(table)
        except ValidationError as error:
            self.problems.extend(f"{where}{_place(item['loc'])}: {item['msg']}" for item in error.errors())
            return None
        return export.model_copy(update={"name": name, **self._kept_elsewhere(export, where)})

    def _kept_elsewhere(self, export: Export, where: str) -> dict[str, object]:
        """Return secrets, and paths from where the file stands."""
        if isinstance(export, FilesExport):
            if export.format is Format.PARQUET and importlib.util.find_spec("pyarrow") is None:
                self.problems.append(f"{where}.format: parquet needs pyarrow: pip install 'tallygate[parquet]'")
            return {"directory": self.beside / export.directory}
        if isinstance(export, StripeExport | LagoExport) and export.key_file is None and export.key_env is None:
            self.problems.append(f"{where}.key_file: is missing; name a file or, as key_env, a variable with the key")
        kept: dict[str, object] = {"key": self._secret(f"{where}.key", export.key_file, export.key_env)}
        if isinstance(export, CloudEventsExport):
            kept["secret"] = secret = self._secret(f"{where}.secret", export.secret_file, export.secret_env)
            try:
                secret_bytes(secret.get_secret_value() or _ANY_SECRET)
            except ValueError as error:
                self.problems.append(f"{where}.secret_file: what it holds is {error}")
        return kept

    def _secret(self, where: str, file: Path | None, variable: str | None) -> SecretStr:
        """Return what a file or a variable holds; empty if neither is named, or if that is wrong."""
        if file is None and variable is None:
            return SecretStr("")
        if file is not None and variable is not None:
            self.problems.append(f"{where}_file: stands beside {where}_env; choose one")
            return SecretStr("")
        text, source = self.environment.get(variable or "", ""), f"{where}_env: {variable}"
        if file is not None:
            source = f"{where}_file: {self.beside / file}"
            try:
                text = (self.beside / file).read_text()
            except (OSError, UnicodeDecodeError) as error:
                self.problems.append(f"{source} cannot be read: {error}")
                return SecretStr("")
        text = text.strip()
        if not (text.isascii() and text.isprintable() and text):
            self.problems.append(f"{source} does not hold a line of ASCII")
        return SecretStr(text)


def _place(location: tuple[int | str, ...]) -> str:
    """Return where in its table a mistake is; the first step is the kind, which is none of the file's."""
    return "".join(f".{step}" for step in location[1:])

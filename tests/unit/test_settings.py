"""Settings: every source, which one wins, and that everything wrong is told at once without a secret."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from tallygate import settings
from tallygate.core.errors import InputError
from tallygate.settings import MASK, InvalidSettingsError, Settings, load, require, shown

SECRET = "do-not-show-me-" + "x" * 32


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a file of settings: a drain of 7 s, a realm, a pepper."""
    path = tmp_path / "tallygate.toml"
    path.write_text(f'drain_s = 7\nrealm = "file"\npepper = "{SECRET}"\n')
    return path


def test_nothing_given_is_valid_and_holds_no_secret() -> None:
    """Every setting has a default that works, but no secret has one."""
    loaded = load({})
    assert set(loaded.sources.values()) == {"default"}
    assert set(loaded.sources) == set(Settings.model_fields)
    secrets = [name for name, field in Settings.model_fields.items() if SecretStr in _types(field.annotation)]
    assert secrets == ["postgres_dsn", "redis_url", "pepper", "pepper_previous", "services_key", "leak_keys"]
    assert [getattr(loaded.values, name) for name in secrets] == [None] * 6


def test_the_environment_wins_over_the_file_and_each_says_where_from(config: Path) -> None:
    """An operator sees for each setting which source gave it."""
    loaded = load({"TALLYGATE_REALM": "environment", "PATH": "/bin", "TALLYGATE_GATEWAY_URL": "http://x"}, config)
    assert (loaded.values.realm, loaded.values.drain_s, loaded.values.license_ttl_s) == ("environment", 7, 25)
    assert loaded.sources["realm"] == "TALLYGATE_REALM"
    assert loaded.sources["drain_s"] == loaded.sources["pepper"] == str(config)
    assert loaded.sources["license_ttl_s"] == "default"


def test_a_secret_may_stand_in_a_file_of_its_own(tmp_path: Path) -> None:
    """`TALLYGATE_PEPPER_FILE` is read, white space around it cut; the plain variable wins over it."""
    path = tmp_path / "pepper"
    path.write_text(f"\n{SECRET}\n")
    loaded = load({"TALLYGATE_PEPPER_FILE": str(path)})
    assert loaded.values.pepper == SecretStr(SECRET)
    assert loaded.sources["pepper"] == "TALLYGATE_PEPPER_FILE"
    both = load({"TALLYGATE_PEPPER_FILE": str(path), "TALLYGATE_PEPPER": SECRET[::-1]})
    assert both.values.pepper == SecretStr(SECRET[::-1])
    assert both.sources["pepper"] == "TALLYGATE_PEPPER"


def test_an_empty_variable_is_one_that_is_not_set(config: Path) -> None:
    """A deployment that leaves a variable empty falls back to the file or the default."""
    loaded = load({"TALLYGATE_REALM": "", "TALLYGATE_PEPPER_FILE": ""}, config)
    assert (loaded.values.realm, loaded.sources["realm"]) == ("file", str(config))


def test_every_wrong_setting_is_told_at_once_and_no_value_of_it() -> None:
    """One run shows all mistakes, each by the name it was given under; a short secret is not quoted."""
    environment = {"TALLYGATE_DRAIN_S": "soon", "TALLYGATE_PEPPER": "short-secret", "TALLYGATE_LICENSE_TTL_S": "30"}
    with pytest.raises(InvalidSettingsError) as wrong:
        load(environment)
    assert len(wrong.value.problems) == 3
    for name in environment:
        assert any(problem.startswith(f"{name}: ") for problem in wrong.value.problems)
        assert name in str(wrong.value)
    assert "short-secret" not in str(wrong.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LICENSE_TTL_S", "0"),
        ("LICENSE_TTL_S", "nan"),
        ("LICENSE_MAX_STALE_S", "82801"),
        ("LICENSE_CACHE_ENTRIES", "1.5"),
        ("STORE_TIMEOUT_S", "0"),
        ("LIMITER_TIMEOUT_S", "-1"),
        ("DRAIN_S", "inf"),
        ("CREDITS_STATUS", "403"),
        ("LOG_LEVEL", "loud"),
        ("TRANSPORT", "carrier-pigeon"),
        ("TOKEN_PREFIX", "tg_"),
        ("TOKEN_PREFIX", "x" * 17),
        ("REALM", 'say "api"'),
        ("REALM", "two\nlines"),
        ("PROBLEM_BASE_URL", "not a url"),
        ("COOKIE", "a=b"),
        ("QUERY_PARAMETER", "a&b"),
        ("PEPPER", "x" * 31),
    ],
)
def test_what_cannot_work_is_refused(name: str, value: str) -> None:
    """A value that would break later, or break a header, is refused at the start under its own name."""
    with pytest.raises(InvalidSettingsError, match=f"TALLYGATE_{name}: "):
        load({f"TALLYGATE_{name}": value})


def test_numbers_arrive_as_numbers() -> None:
    """The environment holds text; what is read from it does not."""
    values = load({"TALLYGATE_CREDITS_STATUS": "429", "TALLYGATE_LIMITER_TIMEOUT_S": "0.1"}).values
    assert (values.credits_status, values.limiter_timeout_s) == (429, 0.1)


def test_a_mistyped_key_of_the_file_is_refused(tmp_path: Path) -> None:
    """A typing error in a file does not silently leave the default in force; the file is named for a wrong value."""
    path = tmp_path / "tallygate.toml"
    path.write_text("licence_ttl_s = 5\ndrain_s = -1\n")
    with pytest.raises(InvalidSettingsError) as wrong:
        load({}, path)
    unknown, negative = sorted(wrong.value.problems, reverse=True)
    assert unknown.startswith("licence_ttl_s: there is no such setting")
    assert negative.startswith(f"TALLYGATE_DRAIN_S ({path}): ")


@pytest.mark.parametrize(("content", "problem"), [(b"drain_s = ", "is not TOML"), (b"\xff\xfe", "is not TOML")])
def test_a_file_that_is_no_toml_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    """A broken file is bad input, not a crash."""
    path = tmp_path / "tallygate.toml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=problem):
        load({}, path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """A wrong path is named: of the settings, or of one secret, which may also be unreadable bytes."""
    with pytest.raises(InputError, match=r"--config: .*gone\.toml cannot be read"):
        load({}, tmp_path / "gone.toml")
    with pytest.raises(InputError, match=r"TALLYGATE_PEPPER_FILE: .*gone cannot be read"):
        load({"TALLYGATE_PEPPER_FILE": str(tmp_path / "gone")})
    (tmp_path / "binary").write_bytes(b"\xff" * 40)
    with pytest.raises(InputError, match="TALLYGATE_PEPPER_FILE: "):
        load({"TALLYGATE_PEPPER_FILE": str(tmp_path / "binary")})


def test_what_is_required_is_asked_for_by_name() -> None:
    """A command that needs several settings names every one that is missing, and what it is."""
    values = load({"TALLYGATE_PEPPER": SECRET}).values
    require(values, "pepper")
    with pytest.raises(InvalidSettingsError) as missing:
        require(values, "postgres_dsn", "redis_url", "pepper")
    assert [problem.partition(":")[0] for problem in missing.value.problems] == [
        "TALLYGATE_POSTGRES_DSN",
        "TALLYGATE_REDIS_URL",
    ]
    assert "Counter store" in str(missing.value)


def test_secrets_are_shown_nowhere(config: Path) -> None:
    """Neither `config show` nor a repr of the settings tells a secret; what is not set is empty."""
    loaded = load({}, config)
    assert shown(loaded.values, "pepper") == MASK
    assert (shown(loaded.values, "cookie"), shown(loaded.values, "drain_s")) == ("", "7.0")
    assert SECRET not in repr(loaded)


def test_every_setting_is_documented() -> None:
    """`config show` explains each, for the descriptions are the documentation."""
    assert [name for name, field in Settings.model_fields.items() if not (field.description or "").endswith(".")] == []
    assert settings.PREFIX == "TALLYGATE_"


def _types(annotation: object) -> tuple[object, ...]:
    return getattr(annotation, "__args__", (annotation,))

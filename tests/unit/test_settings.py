"""Settings: one reader of the environment, which says which variable is wrong."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from aos_workflow.database import normalised_url
from aos_workflow.errors import SettingsError
from aos_workflow.settings import Settings, environment_with, variable

SECRET = "hunter2-very-secret"
WHOLE = ["AOS_INPUT_LIMIT_BYTES", "AOS_OUTPUT_LIMIT_BYTES", "AOS_PLAN_LIMIT_BYTES", "AOS_POOL_SIZE", "AOS_WINDOW"]
SECONDS = ["AOS_SWEEP_EVERY_S", "AOS_HEARTBEAT_EVERY_S", "AOS_WORKER_TTL_S", "AOS_GOLDEN_RETENTION_DAYS"]
TEXTS = ["AOS_DATABASE_URL", "AOS_BROKER_URL", "AOS_REDIS_URL", "AOS_APP"]
SECRETS = ["GOLDEN_HMAC_SECRET", "GOLDEN_HMAC_OLD_SECRETS"]
PATHS = [
    "AOS_HOME", "AOS_PG_BINDIR", "AOS_VALKEY_SERVER", "AOS_FAULT_LOG", "AOS_GOLDEN_DIR", "AOS_GOLDEN_KEYS_FILE",
]  # fmt: skip
OTHERS = ["AOS_VOLATILE", "AOS_FAULTS", "AOS_GOLDEN"]


def read(**environment: str) -> Settings:
    return Settings.from_environment(environment)


def test_nothing_set_means_the_defaults() -> None:
    """An empty environment is the documented defaults."""
    assert Settings() == read()


def test_every_field_is_a_variable() -> None:
    """Every setting has its variable, AOS_ and the field's name; this suite knows them all."""
    known = {*WHOLE, *SECONDS, *TEXTS, *PATHS, *SECRETS, *OTHERS}
    assert {variable(field.name) for field in fields(Settings)} == known


@pytest.mark.parametrize("variable", [*WHOLE, *SECONDS])
def test_a_number_is_read(variable: str) -> None:
    """A number is the setting of its name."""
    assert getattr(read(**{variable: " 7 "}), variable.removeprefix("AOS_").lower()) == 7


@pytest.mark.parametrize("variable", SECONDS)
def test_seconds_may_be_parts_of_one(variable: str) -> None:
    """Durations are seconds and need not be whole."""
    assert getattr(read(**{variable: "0.25"}), variable.removeprefix("AOS_").lower()) == 0.25


@pytest.mark.parametrize("variable", TEXTS)
def test_a_text_is_read_without_its_margins(variable: str) -> None:
    """A text is taken as it is, less the blanks around it."""
    assert getattr(read(**{variable: " some:text\n"}), variable.removeprefix("AOS_").lower()) == "some:text"


@pytest.mark.parametrize("variable", PATHS)
def test_a_path_is_a_path(variable: str) -> None:
    """A file's name becomes a Path."""
    assert getattr(read(**{variable: "/srv/aos"}), variable.removeprefix("AOS_").lower()) == Path("/srv/aos")


@pytest.mark.parametrize("variable", [*WHOLE, *SECONDS, *TEXTS, *PATHS, *SECRETS, *OTHERS])
def test_a_blank_variable_is_not_set(variable: str) -> None:
    """A variable that is empty or blank counts as not set."""
    assert read() == read(**{variable: ""}) == read(**{variable: "  "})


def test_secrets_are_read_and_never_shown() -> None:
    """The keys of goldens come from the runbook's variables, and no settings object prints them."""
    settings = read(GOLDEN_HMAC_SECRET=f" {SECRET}\n", GOLDEN_HMAC_OLD_SECRETS=f"{SECRET}1, {SECRET}2")
    assert settings.golden_secret == SECRET
    assert settings.golden_old_secrets == (f"{SECRET}1", f"{SECRET}2")
    assert SECRET not in repr(settings)


@pytest.mark.parametrize(("written", "share"), [("always", 1.0), ("never", 0.0), ("0.25", 0.25), ("", 1.0)])
def test_the_share_of_goldens_is_read(written: str, share: float) -> None:
    """AOS_GOLDEN is a word or a share of the runs."""
    assert read(AOS_GOLDEN=written).golden == share


@pytest.mark.parametrize("written", ["sometimes", "-1", "2", "nan"])
def test_a_senseless_share_of_goldens_is_refused(written: str) -> None:
    """What is no share is refused with the variable's name."""
    with pytest.raises(SettingsError, match="AOS_GOLDEN"):
        read(AOS_GOLDEN=written)


def test_goldens_live_below_home_unless_told_otherwise() -> None:
    """AOS_HOME alone moves the goldens along."""
    assert read(AOS_HOME="/srv/aos").golden_dir == Path("/srv/aos/golden")


def test_volatile_fields_are_a_list() -> None:
    """Volatile fields are separated by commas; blanks and empty parts are dropped."""
    assert read(AOS_VOLATILE=" /usage/ms, took,,/items/*/id ").volatile == ("/usage/ms", "took", "/items/*/id")


@pytest.mark.parametrize("variable", [*WHOLE, *SECONDS])
@pytest.mark.parametrize("written", ["many", "1,5", "0", "-1", "nan", "inf", "1e999", "0x10", "1 000", "None"])
def test_a_malformed_number_names_its_variable(variable: str, written: str) -> None:
    """What is no positive number is refused, naming the variable and saying what to give."""
    with pytest.raises(SettingsError, match=rf"^{variable}=") as refused:
        read(**{variable: written})
    assert refused.value.fix


@pytest.mark.parametrize("variable", WHOLE)
@pytest.mark.parametrize("written", ["0.5", "2.7", "1e-3"])
def test_a_count_must_be_whole(variable: str, written: str) -> None:
    """Half a connection is refused instead of being rounded to none."""
    with pytest.raises(SettingsError, match=rf"^{variable}=.* is not a whole number"):
        read(**{variable: written})


@pytest.mark.parametrize("written", ["/", "/a~x", "took,/a~"])
def test_a_malformed_pointer_names_its_variable(written: str) -> None:
    """A volatile field that is no JSON pointer is refused at the start, not at the first step."""
    with pytest.raises(SettingsError, match=r"^AOS_VOLATILE: "):
        read(AOS_VOLATILE=written)


def test_faults_are_for_tests_only() -> None:
    """Deliberate crashes are refused outside of a test, and read inside of one."""
    with pytest.raises(SettingsError, match=r"^AOS_FAULTS is set outside of a test"):
        read(AOS_FAULTS="after_claim:kill9")
    assert read(AOS_FAULTS="after_claim:kill9", AOS_TESTING="1").faults == "after_claim:kill9"


def test_a_database_is_required_where_one_is_needed() -> None:
    """Without a database the error names the variable and the command that needs none."""
    with pytest.raises(SettingsError, match="AOS_DATABASE_URL is not set") as refused:
        read().required_database_url()
    assert "aos dev" in refused.value.fix


def test_a_database_that_is_set_is_returned() -> None:
    """With a database its URL is returned as written."""
    assert read(AOS_DATABASE_URL="postgresql://h/d").required_database_url() == "postgresql://h/d"


@pytest.mark.parametrize(
    "url",
    [
        f"{SECRET}", f"postgresql://u:{SECRET}@h:port/db", f"mysql://u:{SECRET}@h/db", f"redis://:{SECRET}@h",
        f"://u:{SECRET}@h", f"postgresql//u:{SECRET}@h", f"postgresql://u:{SECRET}@[::1/db",
    ],
)  # fmt: skip
def test_a_malformed_url_tells_no_secret(url: str) -> None:
    """A database URL that cannot be used is refused by its variable's name, and its password is in no word of it."""
    with pytest.raises(SettingsError, match="AOS_DATABASE_URL") as refused:
        normalised_url(url)
    told = [str(refused.value), repr(refused.value), str(refused.value.as_json())]
    assert SECRET not in "".join(told)
    assert refused.value.__context__ is None or refused.value.__suppress_context__


@pytest.mark.parametrize("variable", [*WHOLE, *SECONDS])
def test_another_variable_s_secret_is_not_told(variable: str) -> None:
    """An error about one variable says nothing of the others."""
    with pytest.raises(SettingsError) as refused:
        read(**{variable: "x", "AOS_DATABASE_URL": f"postgresql://u:{SECRET}@h/d"})
    assert SECRET not in str(refused.value)


def test_settings_do_not_change() -> None:
    """Settings are read once and frozen."""
    with pytest.raises(FrozenInstanceError):
        Settings().app = "other"  # type: ignore[misc]


def test_the_process_s_own_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a mapping the environment of the process is read."""
    monkeypatch.setenv("AOS_WINDOW", "3")
    assert Settings.from_environment().window == 3


def test_a_child_s_environment_is_this_one_with_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child gets this process's environment, changed where asked, and this process keeps its own."""
    monkeypatch.setenv("AOS_WINDOW", "3")
    child = environment_with(AOS_WINDOW="4", AOS_APP="a")
    assert (child["AOS_WINDOW"], child["AOS_APP"]) == ("4", "a")
    assert Settings.from_environment().window == 3

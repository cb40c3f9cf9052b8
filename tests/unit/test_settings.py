"""Settings: file, environment, and errors that say what to change."""

from datetime import timedelta
from pathlib import Path

import pytest

from jobs.errors import ConfigurationError
from jobs.settings import load


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "service.yaml"
    path.write_text("model: from-file\nlimits:\n  documents: 7\n")
    settings = load({"PODIUM_CONFIG": str(path), "PODIUM_MODEL": "from-environment"})
    assert (settings.model, settings.limits.documents) == ("from-environment", 7)


def test_nested_settings_and_durations_in_seconds() -> None:
    settings = load({"PODIUM_JOBS__LEASE": "2.5", "PODIUM_MODELS": "a, b"})
    assert settings.jobs.lease == timedelta(seconds=2.5)
    assert settings.served == ("minilm", "a", "b")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PODIUM_MODLE", "minilm", "modle"),
        ("PODIUM_JOBS__LEASE", "0", "jobs.lease"),
        ("PODIUM_LIMITS__DOCUMENTS", "many", "PODIUM_LIMITS__DOCUMENTS"),
        ("PODIUM_API_KEYS", "no-colon", "name:key"),
        ("PODIUM_FLOWER_AUTH", "me:one,you", "user:password"),
        ("PODIUM_REDIS_FSYNC", "no", "redis_fsync"),
        ("PODIUM_CALLBACK_ALLOW", "10.0.0.0/99", "callback_allow"),
        ("PODIUM_CALLBACK_SECRET", "hush", "whsec_"),
        ("PODIUM_CALLBACK_SECRET", "whsec_c2hvcnQ=", "24 to 64 bytes"),
        ("PODIUM_CALLBACK_SECRET", "whsec_not base64!", "callback_secret"),
        ("PODIUM_MODEL__NAME", "x", "is a value, not a section"),
    ],
)
def test_what_can_not_be_used_is_named(name: str, value: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        load({name: value})


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"missing\.yaml can't be read"):
        load({"PODIUM_CONFIG": str(tmp_path / "missing.yaml")})


def test_shown_settings_hide_every_secret() -> None:
    settings = load(
        {
            "PODIUM_API_KEYS": "team:hush-key",
            "PODIUM_FLOWER_AUTH": "me:hush-word",
            "PODIUM_CALLBACK_SECRET": "whsec_" + "hush" * 10,
            "PODIUM_REDIS_URL": "redis://user:hush-password@redis:6379/0",
        }
    )
    assert "hush" not in str(settings.shown())
    assert settings.keys == {"hush-key": "team"}

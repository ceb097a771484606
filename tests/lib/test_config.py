"""Settings: which value wins, and what is said about where it came from."""

from pathlib import Path

import pytest

from sluice import config
from sluice.config import SETTINGS, load, require_project
from sluice.errors import CONFIG, SluiceError


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(config, "ROOT", tmp_path)
    return tmp_path


def dotenv(root: Path, text: str) -> None:
    (root / ".env").write_text(text)


def test_a_flag_wins_over_the_environment_that_over_dotenv_that_over_the_default(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (load().target, load().explain("DBT_TARGET")) == (None, "the default of DBT_TARGET")
    with monkeypatch.context() as patched:
        patched.setenv("DBT_TARGET", "")  # as good as unset; put back at the end of the test
        patched.delenv("DBT_TARGET")
        dotenv(root, "DBT_TARGET=from_file\n")
        settings = load()
        assert (settings.target, settings.explain("DBT_TARGET")) == ("from_file", "DBT_TARGET, set in .env")
        patched.setenv("DBT_TARGET", "from_shell")
        settings = load()
        assert (settings.target, settings.explain("DBT_TARGET")) == ("from_shell", "DBT_TARGET, set in the environment")
        settings = load(target="from_flag")
        assert (settings.target, settings.explain("DBT_TARGET")) == ("from_flag", "DBT_TARGET, set by its flag")


def test_an_empty_setting_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SETTINGS:
        monkeypatch.setenv(name, "")
    settings = load()
    assert (settings.target, settings.lock_wait_s, settings.notify_level, settings.error_classes) == (
        None,
        30.0,
        "ERROR",
        None,
    )
    assert all(settings.explain(name) == f"the default of {name}" for name in SETTINGS)


def test_the_defaults_lie_in_the_root(root: Path) -> None:
    settings = load()
    assert settings.state_dir == root / ".state"
    assert settings.state_url == f"sqlite:{root}/.state/state.sqlite"
    assert settings.log_dir == root / ".logs"
    assert (settings.project_dir, settings.profiles_dir) == (config.BUNDLED_PROJECT, config.BUNDLED_PROJECT)


def test_the_state_store_moves_with_its_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SLUICE_STATE_DIR", str(tmp_path / "s"))
    assert load().state_url == f"sqlite:{tmp_path}/s/state.sqlite"
    monkeypatch.setenv("SLUICE_STATE", "sqlite:/elsewhere/x.sqlite")
    assert load().state_url == "sqlite:/elsewhere/x.sqlite"


def test_folders_are_absolute_and_may_begin_with_a_tilde(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SLUICE_LOG_DIR", "~/logs")
    settings = load(project_dir=Path("shop"))
    assert settings.project_dir == tmp_path / "shop"
    assert settings.log_dir == tmp_path / "home" / "logs"
    assert settings.profiles_dir == tmp_path / "home" / ".dbt"


def test_a_projects_own_profiles_are_taken_first(tmp_path: Path) -> None:
    (tmp_path / "profiles.yml").touch()
    assert load(project_dir=tmp_path).profiles_dir == tmp_path
    assert load(project_dir=tmp_path, profiles_dir=tmp_path / "x").profiles_dir == tmp_path / "x"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SLUICE_LOCK_WAIT_S", "soon"),
        ("SLUICE_LOCK_WAIT_S", "nan"),
        ("SLUICE_LOCK_WAIT_S", "-1"),
        ("SLUICE_NOTIFY_LEVEL", "LOUD"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SluiceError) as caught:
        load()
    assert (caught.value.exit_code, caught.value.code) == (CONFIG, "config_value")
    assert name in caught.value.message
    assert repr(value) in caught.value.message


def test_levels_may_be_written_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_NOTIFY_LEVEL", "warning")
    monkeypatch.setenv("SLUICE_LOCK_WAIT_S", "0.5")
    assert (load().notify_level, load().lock_wait_s) == ("WARNING", 0.5)


def test_each_project_profile_and_target_has_its_own_cache(tmp_path: Path) -> None:
    caches = {
        load(project_dir=tmp_path / project, profiles_dir=tmp_path / profiles, target=target).cache_dir
        for project in "ab"
        for profiles in "cd"
        for target in (None, "dev")
    }
    assert len(caches) == 8
    assert load(project_dir=tmp_path / "a").cache_dir == load(project_dir=tmp_path / "a").cache_dir


def test_a_missing_project_or_profile_is_named_with_where_it_was_set(tmp_path: Path) -> None:
    settings = load(project_dir=tmp_path, profiles_dir=tmp_path / "p")
    with pytest.raises(
        SluiceError, match=f"no dbt_project.yml in {tmp_path} .DBT_PROJECT_DIR, set by its flag."
    ) as caught:
        require_project(settings)
    assert caught.value.exit_code == CONFIG
    (tmp_path / "dbt_project.yml").touch()
    with pytest.raises(
        SluiceError, match=f"no profiles.yml in {tmp_path}/p .DBT_PROFILES_DIR, set by its flag."
    ) as caught:
        require_project(settings)
    assert caught.value.exit_code == CONFIG
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "profiles.yml").touch()
    require_project(settings)


def test_a_relative_path_in_dotenv_counts_from_its_folder_and_one_of_the_shell_from_the_current(tmp_path, monkeypatch):
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    for folder in (root, elsewhere):
        folder.mkdir()
    monkeypatch.setattr(config, "ROOT", root)
    monkeypatch.chdir(elsewhere)
    for name in ("SLUICE_STATE", "SLUICE_LOG_DIR", "SLUICE_STATE_DIR"):
        monkeypatch.delenv(name, raising=False)
    dotenv(root, "SLUICE_STATE=sqlite:kept/state.sqlite\nSLUICE_LOG_DIR=kept/logs\n")
    with monkeypatch.context() as shell:
        shell.setenv("SLUICE_STATE_DIR", "mine")
        settings = config.load()
    assert settings.state_url == f"sqlite:{root / 'kept/state.sqlite'}"
    assert (settings.log_dir, settings.state_dir) == (root / "kept/logs", elsewhere / "mine")
    for name in ("SLUICE_STATE", "SLUICE_LOG_DIR"):
        monkeypatch.delenv(name)

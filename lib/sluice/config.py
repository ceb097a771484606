"""Settings: the only reader of the environment. A flag wins over the environment, that over .env, that over defaults.

`Config.explain(name)` says where a value came from, for messages.
"""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from sluice.errors import misconfigured
from sluice.records import Severity

ROOT = Path(__file__).resolve().parents[2]
BUNDLED_PROJECT = ROOT / "warehouse"

# name: what it is for. docs/commands.md is generated from this table, so a setting that is not here does not exist.
SETTINGS = {
    "DBT_PROJECT_DIR": "the dbt project (default: the bundled warehouse/)",
    "DBT_PROFILES_DIR": "the folder of profiles.yml (default: the project's own, else ~/.dbt)",
    "DBT_TARGET": "the target of the profile (default: the profile's own)",
    "SLUICE_STATE": "the state store: sqlite:PATH, postgresql://… or clickhouse://… (default: sqlite:.state/state.sqlite)",
    "SLUICE_STATE_DIR": "locks, dbt's parse cache and the default state store (default: .state)",
    "SLUICE_LOG_DIR": "logs, one file a batch, and the records of each run (default: .logs)",
    "SLUICE_LOG_FILE": "the log that commands append to (default: sluice-YYYY-MM-DD.log in the log folder)",
    "SLUICE_ERROR_CLASSES": "a TOML file with error classes of your own, tried before the built-in ones",
    "SLUICE_LOCK_WAIT_S": "how long to wait for a database file that another process holds, in seconds (default: 30)",
    "SLUICE_REFILL_CONSUMERS": "the consumers of a refill, a dbt selection such as int_prices_daily+ (default: none)",
    "SLUICE_AUDIT_SCHEMA": "where dbt's audit hooks write: their var sluice_audit_schema (default: sluice)",
    "SLUICE_COMPONENTS": "the parts of the daily refresh in their order: dbt selectors, a,b (default: everything at once)",
    "SLUICE_RAW_SCHEMA": "the schema (ClickHouse: the database) that syncs load into (default: raw)",
    "SLUICE_SOURCES": "the folder of sources for make sync, NAME.TAP.json each (default: sources)",
    "SLUICE_METRICS_FILE": "a Prometheus text file, written anew at the end of each run (default: none)",
    "SLUICE_COST_PER_HOUR": "what an hour of the warehouse costs, in any currency, for --estimate (default: none)",
    "OPENLINEAGE_URL": "a server that is told of each batch, as OpenLineage events (default: none)",
    "OPENLINEAGE_NAMESPACE": "the namespace of their jobs (default: sluice)",
    "OPENLINEAGE_API_KEY": "the key of that server, or OPENLINEAGE_API_KEY_FILE",
    "TAP_EXCHANGE_API_KEY": "a key of tap-exchange; also TAP_EXCHANGE_SECRET, TAP_EXCHANGE_PASSWORD; each as …_FILE, too",
    "TAP_DEBANK_ACCESS_KEY": "the key of tap-debank, or TAP_DEBANK_ACCESS_KEY_FILE",
    "SLUICE_NOTIFY_LEVEL": "the least severity that is told: INFO, WARNING, ERROR (default) or CRITICAL",
    "TELEGRAM_BOT_TOKEN": "the bot that notify sends as, or TELEGRAM_BOT_TOKEN_FILE (default: none, nothing is sent)",
    "TELEGRAM_BOT_TOKEN_FILE": "a file that holds the token",
    "TELEGRAM_CHAT_ID": "the chats that it writes to, with commas, or TELEGRAM_CHAT_ID_FILE",
    "TELEGRAM_CHAT_ID_FILE": "a file that holds the chats",
    "SLUICE_CHANNEL_URLS_FILE": "a file that holds them",
    "SLUICE_CHANNEL_URLS": "more channels for notify: Apprise URLs, with spaces, or SLUICE_CHANNEL_URLS_FILE (default: none)",
    "SLUICE_TELEGRAM_API": "the address of another Bot API server (default: https://api.telegram.org)",
}

PATHS = ("DBT_PROJECT_DIR", "DBT_PROFILES_DIR", "SLUICE_STATE", "SLUICE_STATE_DIR", "SLUICE_LOG_DIR", "SLUICE_LOG_FILE",
         "SLUICE_ERROR_CLASSES", "SLUICE_METRICS_FILE", "OPENLINEAGE_API_KEY_FILE", "TELEGRAM_BOT_TOKEN_FILE", "TELEGRAM_CHAT_ID_FILE",
         "SLUICE_CHANNEL_URLS_FILE")  # fmt: skip


@dataclass(frozen=True)
class Config:
    """All settings with their values; built once per command by `load`."""

    project_dir: Path
    profiles_dir: Path
    target: str | None
    state_url: str
    state_dir: Path
    log_dir: Path
    log_file: str | None
    error_classes: Path | None
    lock_wait_s: float
    notify_level: str
    refill_consumers: str | None = None
    components: str | None = None
    telegram_api: str = "https://api.telegram.org"
    audit_schema: str = "sluice"
    raw_schema: str = "raw"
    metrics_file: Path | None = None
    cost_per_hour: float | None = None
    openlineage_url: str | None = None
    openlineage_namespace: str = "sluice"
    origins: dict[str, str] = field(default_factory=dict)

    def secret(self, name: str) -> str | None:
        """A setting that is not kept here: NAME, or what the file NAME_FILE holds. Raises SluiceError (78) without the file."""
        path = os.environ.get(f"{name}_FILE")
        if os.environ.get(name) or not path:
            return os.environ.get(name) or None
        try:
            return Path(path).read_text().strip() or None
        except (OSError, UnicodeDecodeError) as problem:
            why = getattr(problem, "strerror", None) or "is no text"
            raise misconfigured(f"{name}_FILE is {path}, which cannot be read: {why}", code="config_secret") from None

    def explain(self, name: str) -> str:
        """Where a setting came from, as `DBT_TARGET, set in .env` or `the default of SLUICE_STATE`."""
        origin = self.origins.get(name)
        return f"{name}, set {origin}" if origin else f"the default of {name}"

    @property
    def cache_dir(self) -> Path:
        """Where dbt's parse state of this project and target is kept."""
        import hashlib

        key = f"{self.project_dir}\0{self.profiles_dir}\0{self.target or ''}"
        return self.state_dir / "dbt" / hashlib.sha256(key.encode()).hexdigest()[:16]


def load(*, project_dir: Path | None = None, profiles_dir: Path | None = None, target: str | None = None) -> Config:
    """Read flags, environment and .env. Raises SluiceError (78) for a value that cannot be."""
    origins = _load_dotenv()
    flags = {"DBT_PROJECT_DIR": project_dir, "DBT_PROFILES_DIR": profiles_dir, "DBT_TARGET": target}

    def get(name: str) -> str | None:
        flag = flags.get(name)
        if flag is not None:
            origins[name] = "by its flag"
            return str(flag)
        value = os.environ.get(name)
        if value:
            origins.setdefault(name, "in the environment")
        return value or None

    project = _folder(get("DBT_PROJECT_DIR") or BUNDLED_PROJECT)
    own_profiles = project if (project / "profiles.yml").exists() else Path.home() / ".dbt"
    state_dir = _folder(get("SLUICE_STATE_DIR") or ROOT / ".state")
    lock_wait = get("SLUICE_LOCK_WAIT_S") or "30"
    if not re.fullmatch(r"\d+(\.\d+)?", lock_wait):
        raise misconfigured(f"SLUICE_LOCK_WAIT_S is {lock_wait!r}, not a number of seconds", code="config_value")
    notify_level = get("SLUICE_NOTIFY_LEVEL") or "ERROR"
    if notify_level.upper() not in get_args(Severity):
        raise misconfigured(
            f"SLUICE_NOTIFY_LEVEL is {notify_level!r}, none of {', '.join(get_args(Severity))}", code="config_value"
        )
    cost = get("SLUICE_COST_PER_HOUR")
    if cost is not None and not re.fullmatch(r"\d+(\.\d+)?", cost):
        raise misconfigured(f"SLUICE_COST_PER_HOUR is {cost!r}, not a number", code="config_value")
    error_classes, metrics_file = get("SLUICE_ERROR_CLASSES"), get("SLUICE_METRICS_FILE")
    return Config(
        project_dir=project,
        profiles_dir=_folder(get("DBT_PROFILES_DIR") or own_profiles),
        target=get("DBT_TARGET"),
        state_url=get("SLUICE_STATE") or f"sqlite:{state_dir / 'state.sqlite'}",
        state_dir=state_dir,
        log_dir=_folder(get("SLUICE_LOG_DIR") or ROOT / ".logs"),
        log_file=get("SLUICE_LOG_FILE"),
        error_classes=Path(error_classes) if error_classes else None,
        lock_wait_s=float(lock_wait),
        notify_level=notify_level.upper(),
        refill_consumers=get("SLUICE_REFILL_CONSUMERS"),
        components=get("SLUICE_COMPONENTS"),
        telegram_api=(get("SLUICE_TELEGRAM_API") or "https://api.telegram.org").rstrip("/"),
        audit_schema=get("SLUICE_AUDIT_SCHEMA") or "sluice",
        raw_schema=get("SLUICE_RAW_SCHEMA") or "raw",
        metrics_file=_folder(metrics_file) if metrics_file else None,
        cost_per_hour=float(cost) if cost is not None else None,
        openlineage_url=get("OPENLINEAGE_URL"),
        openlineage_namespace=get("OPENLINEAGE_NAMESPACE") or "sluice",
        origins=origins,
    )


def require_project(config: Config) -> None:
    """Raises SluiceError (78) when there is no dbt project or no profiles.yml where the settings point."""
    if not (config.project_dir / "dbt_project.yml").is_file():
        raise misconfigured(
            f"no dbt_project.yml in {config.project_dir} ({config.explain('DBT_PROJECT_DIR')})",
            code="config_no_project",
            hint="pass --project-dir, or set DBT_PROJECT_DIR",
        )
    if not (config.profiles_dir / "profiles.yml").is_file():
        raise misconfigured(
            f"no profiles.yml in {config.profiles_dir} ({config.explain('DBT_PROFILES_DIR')})",
            code="config_no_profile",
            hint="pass --profiles-dir, or set DBT_PROFILES_DIR",
        )


def _folder(path: str | Path) -> Path:
    return Path(os.path.abspath(os.path.expanduser(path)))


def _rooted(name: str, value: str) -> str:
    """A relative path of .env counts from the file's folder: cron starts elsewhere than a person does."""
    scheme, colon, path = value.rpartition(":") if name == "SLUICE_STATE" else ("", "", value)
    is_path = name in PATHS and not os.path.isabs(os.path.expanduser(path)) and scheme in ("", "sqlite")
    return f"{scheme}{colon}{ROOT / path}" if is_path else value


def _load_dotenv() -> dict[str, str]:
    """Put .env of the project's root into the environment, the shell's own values winning; say which came from it."""
    path = ROOT / ".env"
    if not path.is_file():
        return {}
    from dotenv import dotenv_values

    values = {k: _rooted(k, v) for k, v in dotenv_values(path).items() if v and k not in os.environ}
    os.environ.update(values)
    return dict.fromkeys(values, "in .env")

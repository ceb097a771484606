"""Python and its packages, project and profile, our dbt package, Telegram: what is wrong before anything runs."""

import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from sluice import config, delivery, telegram
from sluice.config import require_project
from sluice.doctor.visit import Found, Visit, some
from sluice.manifest import Manifest

_MACRO = re.compile(r"\{%-?\s*macro\s+(\w+)")


def python(visit: Visit) -> Iterator[Found]:
    """Which Python runs; bin/_boot.py has refused one that is too old."""
    where = "of the project's .venv" if Path(sys.prefix).parent == config.ROOT else f"of {sys.prefix}"
    yield Found("ok", f"{'.'.join(map(str, sys.version_info[:3]))} {where}")


def lock(visit: Visit) -> Iterator[Found]:
    """Whether what is installed is what the lock says."""
    path = config.ROOT / "requirements.txt"
    if not path.exists():
        yield Found("warn", f"there is no {path} to compare with")
        return
    wanted = locked(path.read_text())
    others = [f"{name} {there or 'is missing'} instead of {version}" if there else f"{name} is missing"
              for name, version in wanted.items() if (there := _installed(name)) != version]  # fmt: skip
    if others:
        again = f"{sys.executable} -m pip install --require-hashes -r {path}"
        yield Found("fail", f"{len(others)} of {len(wanted)} packages are not the lock's: {some(others)}", again)
    else:
        yield Found("ok", f"all {len(wanted)} packages are those of {path.name}")


def locked(text: str) -> dict[str, str]:
    """Version by name of the packages that a lock asks for on this platform. Raises ValueError for a line that pins none."""
    from packaging.requirements import Requirement

    found = {}
    for line in text.splitlines():
        if re.match(r"[A-Za-z0-9]", line):
            wanted = Requirement(line.partition(" --hash")[0].rstrip(" \\"))
            if wanted.marker is None or wanted.marker.evaluate():
                (pin,) = wanted.specifier
                found[wanted.name] = pin.version
    return found


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def project(visit: Visit) -> Iterator[Found]:
    """Whether a dbt project and a profiles.yml are where the settings point, and who pointed there."""
    require_project(visit.config)
    for what, path in (("DBT_PROJECT_DIR", visit.config.project_dir), ("DBT_PROFILES_DIR", visit.config.profiles_dir)):
        yield Found("ok", f"{path} ({visit.config.explain(what)})")


def profile(visit: Visit) -> Iterator[Found]:
    """Whether the profile can be rendered for the target in use."""
    credentials = visit.credentials
    origin = visit.config.explain("DBT_TARGET") if visit.config.target else "the target that the profile itself names"
    yield Found("ok", f"{credentials} ({origin}), schema {credentials.schema}")


def parse(visit: Visit) -> Iterator[Found]:
    """Whether dbt can load the project."""
    info = visit.project.info
    models = len(visit.project.manifest.of_type("model"))
    yield Found("ok", f"{info.project_name}: {models} models, dbt {info.dbt_version}")


def macros(visit: Visit) -> Iterator[Found]:
    """Whether the project has our dbt package, and as it is here."""
    package = config.ROOT / "sql" / "dbt"
    missing, others = compared(visit.project.manifest, package)
    ours = len(list(package.rglob("macros/**/*.sql")))
    add = f"add `- local: {package}` to {visit.config.project_dir / 'packages.yml'}, then: dbt deps"
    if len(missing) == ours:
        yield Found(
            "warn", "the dbt package sluice is not installed: models can do without, if they filter by their vars", add
        )
    elif missing or others:
        what = [f"{name} is missing" for name in missing] + [f"{name} differs" for name in others]
        yield Found("warn", f"the dbt package sluice is not that of this Sluice: {some(what)}",
                    f"dbt deps --project-dir {visit.config.project_dir}")  # fmt: skip
    else:
        yield Found("ok", f"the dbt package sluice, {ours} macros, as it is here")


def compared(manifest: Manifest, package: Path) -> tuple[list[str], list[str]]:
    """Of the package's files those whose macro the project lacks, and those whose macro says something else there."""
    there = {macro.name: macro.macro_sql for macro in manifest.macros.values() if macro.package_name == "sluice"}
    missing, others = [], []
    for path in sorted(package.rglob("macros/**/*.sql")):
        text = path.read_text()
        names = _MACRO.findall(text)
        if not names or names[0] not in there:
            missing.append(path.stem)
        elif any(name not in there or there[name].strip() not in text for name in names):
            others.append(path.stem)
    return missing, others


def telegram_bot(visit: Visit) -> Iterator[Found]:
    """Whether notify can send, asked of Telegram itself where it can be reached."""
    account = delivery.account(visit.ctx)
    if account is None:
        yield Found("warn", "not set up: what goes wrong at night stands in the log only",
                    "set TELEGRAM_BOT_TOKEN and TELEGRAM_CHAT_ID in .env, then: notify --test")  # fmt: skip
        return
    name, problem = telegram.whoami(account, timeout_s=visit.timeout_s)
    if problem is None:
        yield Found("ok", f"sends as @{name} to {len(account.chats)} chat{'s' if len(account.chats) != 1 else ''}")
    else:
        yield Found("fail" if "TELEGRAM_BOT_TOKEN" in problem else "warn", problem, "notify --test")

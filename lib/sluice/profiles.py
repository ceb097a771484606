"""The credentials of a dbt target: profiles.yml rendered as dbt renders it, without dbt's 1.6 s of import."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from sluice.config import Config, require_project
from sluice.errors import SluiceError, misconfigured, suggestion

SECRET_PREFIX = "DBT_ENV_SECRET"  # noqa: S105
MAX_BYTES = 1 << 20
MAX_VALUES = 10_000  # YAML aliases can make a small file as large as one likes

ALIASES = {"postgres": {"dbname": "database", "pass": "password"}}
SECRET_FIELD = re.compile(r"password|passwd|^pass$|secret|token|private_key|passphrase|api_?key", re.IGNORECASE)


@dataclass(frozen=True, repr=False)
class Credentials:
    """One output of profiles.yml, rendered. Its repr shows no field: any may hold a secret.

    `adapter` is dbt's adapter type; `database` is None where the adapter knows none (ClickHouse). `fields` are all the
    others, by dbt's canonical names, as they stand in the output; what is left out there is not in here.
    """

    adapter: str
    profile: str
    target: str
    database: str | None
    schema: str
    threads: int = 1
    fields: Mapping[str, Any] = field(default_factory=dict)
    project_dir: Path = Path()

    def __repr__(self) -> str:
        return f"<{self}>"

    def __str__(self) -> str:
        return f"target {self.target} ({self.adapter}) of profile {self.profile}"

    def get(self, name: str, default: Any = None) -> Any:
        """The field, or `default` when it is left out or empty."""
        value = self.fields.get(name)
        return default if value is None or value == "" else value

    def whole_number(self, name: str, default: int) -> int:
        """The field as a number. Raises SluiceError (78) for what is none."""
        value = self.get(name, default)
        try:
            return int(value)
        except (TypeError, ValueError):
            raise misconfigured(
                f"{self}: {name} is {value!r}, not a whole number", code="profile_broken", hint="dbt debug"
            ) from None

    def hide(self, text: str) -> str:
        """`text`, such as a driver's message, without the values of the secret fields."""
        for secret in sorted(_secrets(self.fields), key=len, reverse=True):
            text = text.replace(secret, "***")
        return text


def load(config: Config, vars: Mapping[str, Any] | None = None) -> Credentials:
    """The credentials that dbt would use for the project, profiles folder and target of `config`.

    Raises SluiceError (78) that names file, profile and target; never a value.
    """
    require_project(config)
    project_file = config.project_dir / "dbt_project.yml"
    render = partial(_render, native=_renderer(_names(config, vars or {})))
    name = _read(project_file).get("profile")
    name = _rendered(f"profile in {project_file}", lambda: render(name, ("profile",))) if name else None
    if not name:
        raise misconfigured(
            f"{project_file} names no profile", code="profile_unnamed", hint=f"add `profile: NAME` to {project_file}"
        )
    return _credentials(config, str(name), render)


def targets(config: Config) -> list[str]:
    """The names of all targets of the profile that is in use. Raises as `load` does."""
    return sorted(map(str, _read(config.profiles_dir / "profiles.yml")[load(config).profile]["outputs"]))


def _credentials(config: Config, name: str, render: Callable[[Any, tuple], Any]) -> Credentials:
    path = config.profiles_dir / "profiles.yml"
    profile = _one_of(_read(path), name, f"profile {name!r} in {path}", "profile_unknown", "named in dbt_project.yml")
    at = f"profile {name!r} in {path}"
    if not isinstance(profile, dict) or not isinstance(profile.get("outputs"), dict):
        raise misconfigured(f"{at} has no outputs", code="profile_broken", hint="dbt debug")
    target = config.target
    origin = config.explain("DBT_TARGET")
    if target is None:
        target = str(_rendered(f"target of {at}", lambda: render(profile.get("target", "default"), ("target",))))
        origin = "the target that the profile itself names"
    output = _one_of(profile["outputs"], target, f"target {target!r} in {at}", "profile_unknown_target", origin)
    at = f"target {target!r} of {at}"
    if not isinstance(output, dict):
        raise misconfigured(f"{at} is not a mapping", code="profile_broken", hint="dbt debug")
    fields = _render_all(output, (), render, at, [0])
    adapter = fields.pop("type", None)
    if not isinstance(adapter, str):
        raise misconfigured(
            f"{at} has no type", code="profile_broken", hint="add `type: duckdb`, or whatever adapter it is"
        )
    aliases = ALIASES.get(adapter, {})
    fields = {aliases.get(key, key): value for key, value in fields.items()}
    threads = fields.pop("threads", 1)
    database, schema = _place(adapter, fields, config.project_dir)
    return Credentials(
        adapter=adapter, profile=name, target=target, database=database, schema=schema, threads=threads, fields=fields,
        project_dir=config.project_dir,
    )  # fmt: skip


def _place(adapter: str, fields: dict[str, Any], project_dir: Path) -> tuple[str | None, str]:
    """The database and schema that dbt would take, defaults included; both leave `fields`."""
    database, schema = fields.pop("database", None), fields.pop("schema", None)
    if adapter == "clickhouse":
        return None, schema or "default"
    if adapter == "duckdb":
        path = str(fields.get("path") or ":memory:")
        if not database:
            # DuckDB calls a file's catalog what stands before the first dot of its name.
            database = "memory" if path == ":memory:" else os.path.basename(path).lstrip(".").split(".")[0]
        if path != ":memory:" and ":" not in path:
            # dbt runs in the project's folder, so that is where its relative paths begin.
            fields["path"] = os.path.join(project_dir, os.path.expanduser(path))
        return database, schema or "main"
    return database, schema or ""


def _one_of(known: Mapping[str, Any], name: str, what: str, code: str, origin: str) -> Any:
    if name in known:
        return known[name]
    names = sorted(map(str, known))
    listed = f"; known: {', '.join(names)}" if names else ""
    raise misconfigured(
        f"there is no {what} ({origin}){suggestion(name, names)}{listed}", code=code,
        hint="pass --target, or set DBT_TARGET" if code.endswith("target") else "pass --profiles-dir",
    )  # fmt: skip


def _read(path: Path) -> dict[str, Any]:
    import yaml

    try:
        if path.stat().st_size > MAX_BYTES:
            raise misconfigured(f"{path} is larger than {MAX_BYTES} bytes", code="profile_broken")
        content = yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader)
    except OSError as problem:
        raise misconfigured(f"{path}: {problem.strerror}", code="profile_unreadable") from None
    except (yaml.YAMLError, ValueError) as problem:
        # Not the text of the problem: it quotes the line, which may be the one with the password.
        mark = getattr(problem, "problem_mark", None)
        what = getattr(problem, "problem", None) or "a value that cannot be"
        line = f", line {mark.line + 1}" if mark else ""
        raise misconfigured(f"{path}{line} is not YAML: {what}", code="profile_broken", hint="dbt debug") from None
    if not isinstance(content, dict):
        raise misconfigured(f"{path} is not a mapping", code="profile_broken", hint="dbt debug")
    return content


# Rendering: the same Jinja environment, the same names and the same conversions as dbt's ProfileRenderer.


def _render_all(
    value: Any, keys: tuple[str, ...], render: Callable[[Any, tuple], Any], at: str, count: list[int]
) -> Any:
    """Every value below `value` rendered; `count` is how many there were so far."""
    count[0] += 1
    if count[0] > MAX_VALUES or len(keys) > 32:
        raise misconfigured(f"{at} holds more than {MAX_VALUES} values, or too deep ones", code="profile_broken")
    if isinstance(value, list):
        return [_render_all(inner, (*keys, str(i)), render, at, count) for i, inner in enumerate(value)]
    if isinstance(value, dict):
        return {key: _render_all(inner, (*keys, str(key)), render, at, count) for key, inner in value.items()}
    return _rendered(f"{'.'.join(keys)} of {at}", lambda: render(value, keys))


def _rendered(what: str, render: Callable[[], Any]) -> Any:
    import jinja2

    try:
        return render()
    except _Refusal as problem:
        reason = f"{problem}"
    except jinja2.TemplateSyntaxError as problem:
        reason = f"its Jinja is not understood (line {problem.lineno})"
    except jinja2.UndefinedError as problem:
        reason = f"{problem}"
    except SluiceError:
        raise
    except Exception as problem:  # whatever a template can do wrong; its message may hold a value
        reason = f"its Jinja fails with {type(problem).__name__}"
    raise misconfigured(f"{what}: {reason}", code="profile_render", hint="dbt debug") from None


class _Refusal(Exception):
    """Why a value cannot be rendered, in words that hold no value."""


def _render(value: Any, keys: tuple[str, ...], native: Callable[[str], Any]) -> Any:
    if not isinstance(value, str):
        return value.isoformat() if isinstance(value, date) else value
    try:
        rendered = native(value)
    except Exception:
        if "password" not in keys:
            raise
        rendered = value  # a password may look like Jinja and be none
    return _PLACEHOLDER.sub(lambda match: os.environ[match[1]], rendered) if isinstance(rendered, str) else rendered


# A secret stands in for itself until Jinja is done, so that no filter can take it apart.
_PLACEHOLDER = re.compile(rf"\$\$\$DBT_SECRET_START\$\$\$({SECRET_PREFIX}.*?)\$\$\$DBT_SECRET_END\$\$\$")


def _renderer(names: dict[str, Any]) -> Callable[[str], Any]:
    """What renders a text to a native value: one expression keeps its type, several become a string."""
    import jinja2
    from jinja2.nativetypes import NativeCodeGenerator
    from jinja2.sandbox import SandboxedEnvironment

    environment = SandboxedEnvironment(extensions=["jinja2.ext.do", "jinja2.ext.loopcontrols"])
    environment.code_generator_class = NativeCodeGenerator
    environment.filters.update(
        as_text=_Text,
        as_bool=_Bool,
        as_native=_Marked,
        as_number=_Number,
        is_list=lambda value: isinstance(value, list),
    )

    def native(text: str) -> Any:
        template = environment.from_string(text, globals=names)
        parts = list(template.root_render_func(template.new_context(names)))
        if len(parts) != 1:
            return "".join(map(str, parts))
        [part] = parts
        if isinstance(part, jinja2.Undefined):
            raise _Refusal(f"{part._undefined_name!r} is undefined")
        return part.converted() if isinstance(part, _Marked) else part

    return native


class _Marked(str):
    """A string with the type that a filter wants it to become."""

    wanted = "native"

    def converted(self) -> Any:
        from ast import literal_eval

        try:
            value = literal_eval(str(self))
        except (ValueError, SyntaxError, MemoryError):
            value = str(self)
        is_bool = isinstance(value, bool)
        fits = {"native": True, "bool": is_bool, "number": isinstance(value, int | float) and not is_bool}[self.wanted]
        if not fits:
            raise _Refusal(f"not a {self.wanted}, which as_{self.wanted} wants")
        return value


class _Bool(_Marked):
    wanted = "bool"


class _Number(_Marked):
    wanted = "number"


class _Text(_Marked):
    def converted(self) -> str:
        return str(self)


def _names(config: Config, vars: Mapping[str, Any]) -> dict[str, Any]:
    """The names that dbt knows in profiles.yml. `target` is not among them: it is what is being made."""
    import hashlib
    import json

    import yaml

    def default_on_error(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(value: Any, default: Any = None, **more: Any) -> Any:
            try:
                return function(value, **more)
            except (ValueError, TypeError, yaml.YAMLError):
                return default

        return call

    def var(name: str, *default: Any) -> Any:
        if name in vars:
            return vars[name]
        if default:
            return default[0]
        raise _Refusal(f"the var {name!r} is not given")

    names: dict[str, Any] = {
        "env_var": _env_var,
        "var": var,
        "flags": _Flags(config),
        "fromjson": default_on_error(json.loads),
        "tojson": default_on_error(json.dumps),
        "fromyaml": default_on_error(yaml.safe_load),
        "toyaml": default_on_error(yaml.safe_dump),
        "set": lambda value, default=None: set(value),
        "set_strict": set,
        "zip": lambda *values, default=None: zip(*values, strict=False),
        "zip_strict": lambda *values: zip(*values, strict=False),
        "local_md5": lambda text: hashlib.md5(text.encode(), usedforsecurity=False).hexdigest(),
        "log": lambda *_, **__: "",
        "print": lambda *_, **__: "",
        "modules": _modules(),
    }
    return {**names, "builtins": names, "context": names}


def _env_var(name: str, default: Any = None) -> Any:
    if name in os.environ:
        return (
            f"$$$DBT_SECRET_START$$${name}$$$DBT_SECRET_END$$$" if name.startswith(SECRET_PREFIX) else os.environ[name]
        )
    if default is not None:
        return default
    raise _Refusal(f"the environment variable {name} is not set")


class _Flags:
    """dbt's flags, as far as they are known before dbt runs."""

    def __init__(self, config: Config):
        self.PROFILES_DIR = str(config.profiles_dir)
        self.FULL_REFRESH = False

    def __getattr__(self, name: str) -> Any:
        raise _Refusal(f"flags.{name} is not known outside dbt")


def _modules() -> dict[str, Any]:
    import datetime
    import itertools
    import re as regex

    import pytz  # type: ignore[import-untyped]

    def names(module: Any, chosen: Any) -> dict[str, Any]:
        return {name: getattr(module, name) for name in chosen}

    return {
        "datetime": names(datetime, ("date", "datetime", "time", "timedelta", "tzinfo")),
        "itertools": names(itertools, ("chain", "product", "islice", "zip_longest")),
        "re": names(regex, regex.__all__),
        "pytz": names(pytz, pytz.__all__),
    }


def _secrets(value: Any, secret: bool = False) -> set[str]:
    """The texts below secret fields. Short ones stay: they would blot out ordinary words."""
    if isinstance(value, Mapping):
        return set().union(
            *(_secrets(inner, secret or bool(SECRET_FIELD.search(str(key)))) for key, inner in value.items())
        )
    if isinstance(value, list):
        return set().union(*(_secrets(inner, secret) for inner in value))
    return {str(value)} if secret and len(str(value)) >= 4 and not isinstance(value, bool) else set()

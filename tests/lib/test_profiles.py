"""Credentials are what dbt itself would use, and no message or repr holds a secret."""

import os
import pickle
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from sluice import config, profiles
from sluice.errors import CONFIG, SluiceError
from sluice.profiles import Credentials

PROFILES = """
shop:
  target: "{{ env_var('SHOP_TARGET', 'duck') }}"
  outputs:
    duck:
      type: duckdb
      path: "{{ env_var('SHOP_DUCK', flags.PROFILES_DIR ~ '/shop.v2.duckdb') }}"
      threads: "{{ env_var('SHOP_THREADS', '3') | as_number }}"
      settings: {memory_limit: 1GB, threads: "{{ 1 + 1 }}"}
      attach: [{path: "{{ env_var('SHOP_OTHER', '/tmp/other.duckdb') }}", alias: other}]
    memory: {type: duckdb, schema: s}
    click:
      type: clickhouse
      host: "{{ env_var('SHOP_HOST') }}"
      port: "{{ env_var('SHOP_PORT') | as_number }}"
      user: "{% if env_var('SHOP_USER', '') %}{{ env_var('SHOP_USER') }}{% else %}default{% endif %}"
      password: "{{ env_var('DBT_ENV_SECRET_SHOP') }}"
      schema: "{{ 'shop' | upper }}_{{ var('suffix', 'x') }}"
      secure: "{{ env_var('SHOP_SECURE', 'False') | as_bool }}"
      custom_settings: {max_threads: 2, join_algorithm: "{{ 'grace_hash' }}", day: 2024-01-31}
      connect_timeout: 7
    post:
      type: postgres
      host: localhost
      user: "{{ env_var('SHOP_USER', '') or '42' }}"
      password: "{{ unclosed % } {{ password"
      port: "{{ '5432' | as_native }}"
      dbname: "{{ tojson({'a': 1}) | length }}{{ fromyaml('x: db')['x'] }}"
      schema: public
      threads: 2
      search_path: "a{# gone #}, b"
      sslmode: "{{ 'off' if 1 > 2 else 'prefer' }}"
    postpass: {type: postgres, host: h, user: u, pass: "{{ 'hush' ~ 1 }}", port: 1, dbname: d, schema: s, role: "{{ 'r' | as_text }}"}
    flake:
      type: snowflake
      account: "{{ env_var('SHOP_ACCOUNT', 'acme-1') }}"
      user: "x{{ '1' }}"
      password: "pre{{ env_var('DBT_ENV_SECRET_SHOP') }}post"
      private_key_passphrase: "{{ env_var('DBT_ENV_SECRET_NUMBER') }}"
      role: transformer
      database: ANALYTICS
      warehouse: "{{ ['a', 'b'] | join('_') }}"
      schema: "{{ modules.re.sub('-', '_', 'a-b') }}_{{ local_md5('x')[:4] }}"
      client_session_keep_alive: "{{ 'true' == 'true' }}"
      query_tag: "{{ none }}"
      connect_retries: "{{ '0x10' | as_native }}"
      retry_all: "{{ [1, 2] }}"
    text: not a mapping
    typeless: {path: x}
    unset: {type: duckdb, path: "{{ env_var('SHOP_UNSET') }}"}
    unknown: {type: duckdb, path: "{{ nobody_knows }}"}
    numberless: {type: duckdb, path: "{{ env_var('DBT_NOT_A_NUMBER') | as_number }}"}
    crooked: {type: duckdb, path: "{% if %}"}
    sly: {type: duckdb, path: "{{ ().__class__.__mro__[1].__subclasses__() }}"}
  config: {}
bare: {target: x}
bomb:
  target: b
  outputs:
    b: {type: duckdb, a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1], b: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a, *a], c: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b, *b], d: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c, *c], e: [*d, *d, *d]}
"""
SECRET = "s3cret-{{ 7 }}-x"
ENVIRONMENT = {
    "SHOP_HOST": "localhost", "SHOP_PORT": "8123", "DBT_ENV_SECRET_SHOP": SECRET, "DBT_ENV_SECRET_NUMBER": "12345",
    "DBT_NOT_A_NUMBER": "hush-hush",
}  # fmt: skip


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "profiles.yml").write_text(PROFILES)
    (tmp_path / "dbt_project.yml").write_text("name: shop\nprofile: \"{{ env_var('SHOP_PROFILE', 'shop') }}\"\n")
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def load(project: Path, target: str | None = None, vars: dict | None = None) -> Credentials:
    return profiles.load(config.load(project_dir=project, profiles_dir=project, target=target), vars)


def dbts(project: Path, target: str | None, vars: dict | None = None) -> tuple[str, dict[str, Any]]:
    """What dbt renders the target to."""
    from dbt.config.profile import Profile, read_profile
    from dbt.config.renderer import ProfileRenderer
    from dbt.flags import set_from_args
    from dbt_common.context import set_invocation_context

    set_invocation_context(os.environ)
    set_from_args(Namespace(PROFILES_DIR=str(project), PROJECT_DIR=str(project), profiles_dir=str(project)), {})
    raw = read_profile(str(project))["shop"]
    return Profile.render_profile(raw, "shop", target, ProfileRenderer(vars or {}))


@pytest.mark.parametrize("target", [None, "duck", "memory", "click", "post", "postpass", "flake"])
def test_renders_to_what_dbt_renders(project: Path, target: str | None):
    ours = load(project, target, {"suffix": "y"})
    name, theirs = dbts(project, target, {"suffix": "y"})
    aliases = profiles.ALIASES.get(ours.adapter, {})
    theirs = {aliases.get(key, key): value for key, value in theirs.items()}
    assert (ours.target, ours.adapter, ours.threads) == (name, theirs.pop("type"), theirs.pop("threads", 1))
    if ours.adapter != "duckdb":
        assert ours.database == theirs.pop("database", None)
    assert ours.schema == theirs.pop("schema", ours.schema)
    assert ours.fields == theirs
    assert {key: type(value) for key, value in ours.fields.items()} == {
        key: type(value) for key, value in theirs.items()
    }


@pytest.mark.parametrize("target", ["duck", "memory", "click", "postpass"])
def test_connects_where_dbt_would(project: Path, target: str, monkeypatch: pytest.MonkeyPatch):
    from dbt.config.runtime import load_profile

    monkeypatch.chdir(project)
    dbts(project, target)
    theirs = load_profile(str(project), {}, target_override=target)
    ours = load(project, target)
    assert (theirs.profile_name, theirs.target_name, theirs.threads) == (ours.profile, ours.target, ours.threads)
    assert (theirs.credentials.type, theirs.credentials.schema) == (ours.adapter, ours.schema)
    assert (theirs.credentials.database or None) == ours.database
    for name, value in ours.fields.items():
        if name != "attach":
            assert getattr(theirs.credentials, name) == value


def test_secrets_come_through_untouched(project: Path):
    assert load(project, "click").get("password") == SECRET
    flake = load(project, "flake")
    assert flake.get("password") == f"pre{SECRET}post"
    assert flake.get("private_key_passphrase") == "12345"  # a secret is never turned into a number
    assert load(project, "post").get("password") == "{{ unclosed % } {{ password"


def test_relative_path_begins_in_the_project(project: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SHOP_DUCK", "data/x.y.duckdb")
    duck = load(project, "duck")
    assert (duck.get("path"), duck.database) == (str(project / "data/x.y.duckdb"), "x")


@pytest.mark.parametrize(("target", "code", "words"), [
    ("dukc", "profile_unknown_target", ["'dukc'", "profiles.yml", "by its flag", "did you mean 'duck'", "click, crooked"]),
    ("text", "profile_broken", ["'text'", "not a mapping"]),
    ("typeless", "profile_broken", ["'typeless'", "no type"]),
    ("unset", "profile_render", ["path of target 'unset'", "SHOP_UNSET is not set"]),
    ("unknown", "profile_render", ["'nobody_knows' is undefined"]),
    ("numberless", "profile_render", ["not a number"]),
    ("crooked", "profile_render", ["not understood"]),
    ("sly", "profile_render", ["path of target 'sly'"]),
])  # fmt: skip
def test_errors_say_where(project: Path, target: str, code: str, words: list[str]):
    problem = refusal(project, target)
    assert problem.code == code
    assert all(word in problem.message for word in words), problem.message


def refusal(project: Path, target: str | None = None) -> SluiceError:
    with pytest.raises(SluiceError) as caught:
        load(project, target)
    assert caught.value.exit_code == CONFIG
    assert not any(value in f"{caught.value.message} {caught.value.hint}" for value in (SECRET, "hush-hush", "12345"))
    assert caught.value.__cause__ is None
    return caught.value


@pytest.mark.parametrize(("profile", "code", "words"), [
    ("shpo", "profile_unknown", ["'shpo'", "did you mean 'shop'"]),
    ("bare", "profile_broken", ["no outputs"]),
    ("bomb", "profile_broken", ["10000 values"]),
])  # fmt: skip
def test_profiles_that_cannot_be(
    project: Path, monkeypatch: pytest.MonkeyPatch, profile: str, code: str, words: list[str]
):
    monkeypatch.setenv("SHOP_PROFILE", profile)
    problem = refusal(project)
    assert problem.code == code
    assert all(word in problem.message for word in words), problem.message


@pytest.mark.parametrize(
    "content",
    [
        "shop: [",
        "password: !!python/object:os.system hush-hush\n",
        "- a",
        "a: 2024-02-30",
        "\tpassword: hush-hush",
        "x: \xff\x00",
    ],
)
def test_a_file_that_is_no_profiles_file(project: Path, content: str):
    (project / "profiles.yml").write_bytes(content.encode("latin-1"))
    assert refusal(project).code == "profile_broken"


def test_a_project_without_a_profile(project: Path):
    (project / "dbt_project.yml").write_text("name: shop\n")
    assert refusal(project).code == "profile_unnamed"


def test_no_repr_shows_a_field(project: Path):
    for target in ("click", "flake", "post"):
        credentials = load(project, target)
        shown = f"{credentials} {credentials!r} {[credentials]} {dict(c=credentials)}"
        assert not any(text in shown for text in (SECRET, "12345", "password", "unclosed"))
    assert load(project, "click") == pickle.loads(pickle.dumps(load(project, "click")))


def test_driver_messages_lose_their_secrets(project: Path):
    flake = load(project, "flake")
    assert flake.hide(f"login with pre{SECRET}post and 12345 failed for x1") == "login with *** and *** failed for x1"

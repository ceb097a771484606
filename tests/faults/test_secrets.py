"""Six planted secrets, and every place where one could come out."""

import os
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from lengths import figure

pytestmark = pytest.mark.sized

ROOT = Path(__file__).resolve().parents[2]
PLANTED = {
    "profile password": "pr0file-Passw0rd/+x",
    "token": "8123456789:AAF-telegram_Tok3n_of_a_bot_aaaaaaa",
    "DSN": "dsn-Passw0rd-77",
    "environment": "aws-Secr3t-acc3ss-key",
    "var": "var-Secr3t-in-the-project",
    "URL": "url-Passw0rd-42",
}
ENVIRONMENT = {
    "DBT_ENV_SECRET_PG_PASSWORD": PLANTED["profile password"],
    "TELEGRAM_BOT_TOKEN": PLANTED["token"],
    "DATABASE_URL": f"postgres://me:{PLANTED['DSN']}@127.0.0.1:1/db",
    "AWS_SECRET_ACCESS_KEY": PLANTED["environment"],
}
LOUD = {
    # What a warehouse says of bad SQL quotes it; what a macro raises comes through dbt.
    "quoted": "select cast('{{ env_var('AWS_SECRET_ACCESS_KEY') }}' as int) as n",
    "raised": "{{ exceptions.raise_compiler_error('cannot reach ' ~ env_var('DATABASE_URL')) if execute }} select 1 as n",
    "link": "select cast('https://me:{{ env_var('URL_PART') }}@example.org/rows' as int) as n",
    "bot": "select cast('https://api.telegram.org/bot{{ env_var('TELEGRAM_BOT_TOKEN') }}/getMe' as int) as n",
    "told": "{{ log('the var is used, not shown', info=true) }} select {{ var('api_token') | length }} as n",
}

pytest_plugins = ["servers"]


@pytest.fixture
def env(tmp_path: Path, postgres) -> dict[str, str]:
    project = tmp_path / "project"
    for name, sql in LOUD.items():
        path = project / "models" / f"{name}.sql"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(sql)
    (project / "dbt_project.yml").write_text(
        yaml.safe_dump({"name": "loud", "version": "1.0.0", "profile": "loud", "vars": {"api_token": PLANTED["var"]}})
    )
    at = {**postgres.fields, "password": "{{ env_var('DBT_ENV_SECRET_PG_PASSWORD') }}"}
    output = {"type": "postgres", "dbname": "postgres", "schema": f"loud_{os.getpid()}", "threads": 1, **at}
    away = output | {"port": 1}
    (project / "profiles.yml").write_text(
        yaml.safe_dump({"loud": {"target": "dev", "outputs": {"dev": output, "away": away}}})
    )
    return {
        "PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "DBT_PROJECT_DIR": str(project), **ENVIRONMENT, "URL_PART": PLANTED["URL"],
        "SLUICE_STATE_DIR": str(tmp_path / "state"), "SLUICE_LOG_DIR": str(tmp_path / "logs"),
    }  # fmt: skip


class Watch:
    """Looks at every command line on the machine while it is open."""

    def __enter__(self) -> "Watch":
        self.seen: set[bytes] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.is_set():
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.seen.add(path.read_bytes())
                except OSError:
                    continue
            time.sleep(0.05)


def spellings(secret: str) -> Iterator[bytes]:
    yield secret.encode()
    yield urllib.parse.quote(secret, safe="").encode()


def test_no_planted_secret_comes_out_anywhere(env: dict[str, str], tmp_path: Path) -> None:
    def run(line: str, *, target: str = "dev") -> bytes:
        done = subprocess.run(
            ["bash", "-c", line], env=env | {"DBT_TARGET": target}, cwd=ROOT / "bin", capture_output=True, timeout=300
        )
        return done.stdout + done.stderr

    with Watch() as watch:
        said = {
            "run": run("./plan-batches -v | ./run-dbt-batch -v --continue-on-error | ./notify -v"),
            "away": run("./plan-batches --select told --dry-run | ./canary-check -v --select told", target="away"),
            "state": run("./sluice-state runs --json; ./sluice-state pending"),
        }
    assert b'"status":"failed"' in said["run"], said["run"].decode()
    # dbt's own working folder is left out: what a model's SQL gets by env_var() stands in its compiled files. Its mode: below.
    files = {
        path: path.read_bytes()
        for folder in ("logs", "state")
        for path in (tmp_path / folder).rglob("*")
        if path.is_file() and tmp_path / "state" / "dbt" not in path.parents
    }
    assert len(files) > 4
    places = {**said, **{str(path): content for path, content in files.items()}, "process list": b"\n".join(watch.seen)}
    found = [
        f"{what} in {place}: …{content[max(0, at - 80) : at + 10]!r}"
        for place, content in places.items()
        for what, secret in PLANTED.items()
        for spelling in spellings(secret)
        if (at := content.find(spelling)) >= 0
    ]
    assert found == []
    figure("planted secrets", planted=len(PLANTED), places=len(places), found=0)


def test_what_is_kept_is_for_its_owner_alone(env: dict[str, str], tmp_path: Path) -> None:
    subprocess.run(
        ["bash", "-c", "umask 000; ./plan-batches --select told | ./run-dbt-batch"], env=env, cwd=ROOT / "bin", check=True,
        capture_output=True, timeout=300,
    )  # fmt: skip
    for folder in ("logs", "state"):
        for path in [tmp_path / folder, *(tmp_path / folder).rglob("*")]:
            mode = path.stat().st_mode & 0o777
            assert mode & 0o077 == 0, f"{path} is {mode:o}"

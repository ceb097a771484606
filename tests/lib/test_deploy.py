"""The image and the crontab, as far as they can be tried without Docker and cron: what is copied, as whom, with what; each line."""

import fnmatch
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CRONTAB = (ROOT / "pipelines" / "crontab.example").read_text()


def instructions() -> list[tuple[str, str]]:
    """(word, rest) of each instruction of the Dockerfile, continuation lines joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def copied() -> list[str]:
    return [source for word, rest in instructions() if word == "COPY" for source in rest.split()[:-1]]


def is_ignored(path: str) -> bool:
    """What .dockerignore says of a path: the last line that matches it, or a folder above it, decides."""
    ignored = False
    parts = path.split("/")
    above = ["/".join(parts[: i + 1]) for i in range(len(parts))]
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern, keeps = line.removeprefix("!"), line.startswith("!")
        tail = pattern.removeprefix("**/")
        if any(fnmatch.fnmatchcase(one, pattern) if pattern == tail else fnmatch.fnmatchcase(one.rpartition("/")[2], tail) for one in above):  # fmt: skip
            ignored = not keeps
    return ignored


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the image has, with this machine's virtual environment in the place of the image's."""
    folder = tmp_path_factory.mktemp("image")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )  # fmt: skip
    for name in listed.stdout.splitlines():
        if (
            (ROOT / name).is_file()
            and any(name == one or name.startswith(f"{one}/") for one in copied())
            and not is_ignored(name)
        ):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    os.utime(folder / "requirements.txt", (0, 0))  # older than what was installed from it, as in the image
    (folder / ".venv").symlink_to((ROOT / ".venv").resolve())
    return folder


def in_image(image: Path, *command: str) -> subprocess.CompletedProcess[str]:
    env = {
        "PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(image), "LC_ALL": "C.UTF-8", "SLUICE_STATE_DIR": f"{image}/../state",
        "SLUICE_LOG_DIR": f"{image}/../logs", "SLUICE_DUCKDB_PATH": f"{image}/../warehouse.duckdb",
    }  # fmt: skip
    return subprocess.run(command, cwd=image, env=env, capture_output=True, text=True, timeout=120)


def test_all_that_is_copied_is_there_and_nothing_else_gets_in() -> None:
    for source in copied():
        assert (ROOT / source).exists() and not is_ignored(source), source
    for private in (".env", ".git/config", ".state/state.sqlite", ".logs/x.log", "warehouse/warehouse.duckdb", "lib/sluice/__pycache__/x.pyc",
                    "warehouse/target/manifest.json", "sources/coinbase.tap-exchange.json", "tests/lib/test_deploy.py"):  # fmt: skip
        assert is_ignored(private), private
    assert not is_ignored("warehouse/models/sources.yml")


def test_it_runs_as_nobody_in_particular_under_tini_and_with_what_the_lock_says() -> None:
    said = instructions()
    words = [word for word, _ in said]
    assert words[-1] == "CMD" and words.count("USER") == 1
    user = dict(said)["USER"]
    assert user.isdecimal() and int(user) > 0, "a number, for whoever forbids root by it"
    assert "RUN" not in words[words.index("USER") :] and "COPY" not in words[words.index("USER") :]
    assert dict(said)["ENTRYPOINT"].startswith('["tini"')
    assert dict(said)["HEALTHCHECK"].endswith('CMD ["sluice-doctor", "--max-age", "26h"]')
    runs = " ".join(rest for word, rest in said if word == "RUN")
    assert "make .venv/.installed" in runs and "pip install" not in runs
    rule = (ROOT / "Makefile").read_text().partition("\n$(VENV): requirements.txt\n")[2].partition("\n\n")[0]
    assert "--require-hashes" in rule and "-r requirements.txt" in rule
    minor = re.search(r"python:(3\.\d+)-", dict(said)["FROM"])
    assert minor and f"--python-version {minor[1]}" in (ROOT / "pipelines/lock").read_text(), (
        "the lock is for that Python"
    )


def test_what_is_installed_here_is_what_the_lock_says() -> None:
    """So that what the other tests try is what the image has."""
    from importlib.metadata import version

    locked = re.findall(r"^([a-z0-9._-]+)(?:\[.*\])?==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert len(locked) > 50
    assert [(name, version(name), wanted) for name, wanted in locked if version(name) != wanted] == []


@pytest.mark.long
def test_the_files_of_the_image_are_enough_to_set_up_help_and_plan(image) -> None:
    setup = in_image(image, "make", "setup")
    assert setup.returncode == 0 and setup.stderr == "", setup.stderr
    assert in_image(image, "bin/run-dbt-batch", "--help").returncode == 0
    plan = in_image(image, "make", "--silent", "dry-run", "SELECT=tag:market")
    assert plan.returncode == 0, plan.stderr
    assert plan.stdout.count('"type":"batch"') > 10


def cron_lines() -> list[str]:
    return [line for line in CRONTAB.splitlines() if re.match(r"[\d*]", line)]


def cron_variables() -> dict[str, str]:
    return dict(re.findall(r"^([A-Z_]+)=(.*)$", CRONTAB, re.MULTILINE))


def test_the_crontab_names_its_folder_once_and_targets_that_there_are() -> None:
    variables = cron_variables()
    assert variables["CRON_TZ"] == "UTC" and variables["MAILTO"] and Path(variables["SHELL"]).exists()
    assert variables["SLUICE"].startswith("/") and CRONTAB.count(variables["SLUICE"]) == 1
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for line in cron_lines():
        words = shlex.split(line.partition("#")[0])
        assert words[5:9] == ["make", "--silent", "-C", "$SLUICE"] and words[9] in targets, line
        assert "%" not in line, "cron takes it for a line break"
        assert all(re.fullmatch(r"[\d*/]+", word) for word in words[:5]), line
    assert any("0 6 * * * " in line and "daily-refresh" in line for line in cron_lines())


def test_a_line_of_the_crontab_works_in_crons_bare_environment_and_prints_nothing(tmp_path) -> None:
    (line,) = [line for line in cron_lines() if "clean-logs" in line]
    variables = cron_variables() | {"SLUICE": str(ROOT), "HOME": str(tmp_path), "SLUICE_LOG_DIR": str(tmp_path)}
    old = tmp_path / "refresh-2020-01-01.log"
    old.write_text("x")
    os.utime(old, (0, 0))
    command = line.split(maxsplit=5)[5]
    run = subprocess.run(
        [variables["SHELL"], "-c", command], env=variables, cwd=tmp_path, capture_output=True, timeout=60
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, b"", b"")
    assert not old.exists()

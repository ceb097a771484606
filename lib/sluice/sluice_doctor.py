"""The set-up, looked at in the order in which things fail for a newcomer: each line ok, warn or fail, and what to type."""

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

from sluice import progress
from sluice.command import Context
from sluice.doctor import connection, machine, models, setup, store
from sluice.doctor.visit import Found, NotThere, Visit, as_found, is_to_come
from sluice.errors import CONFIG, RED, SluiceError, refused, suggestion
from sluice.log import redact
from sluice.records import Record, SetupCheck

Look = Callable[[Visit], Iterator[Found]]


@dataclass(frozen=True)
class Check:
    """One of the doctor's checks, and the exit code when it fails: 78 for the set-up, 3 for what is found with it."""

    look: Look
    exit_code: int = RED


CHECKS: dict[str, Check] = {
    "python": Check(setup.python, CONFIG),
    "lock": Check(setup.lock, CONFIG),
    "project": Check(setup.project, CONFIG),
    "profile": Check(setup.profile, CONFIG),
    "parse": Check(setup.parse, CONFIG),
    "connection": Check(connection.connection),
    "rights": Check(connection.rights),
    "macros": Check(setup.macros, CONFIG),
    "ignored-vars": Check(models.ignored_vars),
    "guards": Check(models.guards),
    "never-seeded": Check(models.never_filled),
    "stale-code": Check(models.changed_code),
    "state": Check(store.state_store),
    "locks": Check(store.locks),
    "mutations": Check(connection.mutations),
    "telegram": Check(setup.telegram_bot, CONFIG),
    "disk": Check(machine.disk),
    "clock": Check(machine.clock),
}
OTHER_TARGETS = "other-targets"


def sluice_doctor(
    ctx: Context, *, only: list[str], all_targets: bool, timeout_s: float
) -> Generator[Record, None, int]:
    """Yield a line for all that is found. The exit code is 78 when the set-up fails, else 3 when anything does.

    Raises SluiceError (2) for a check that does not exist.
    """
    for name in only:
        if name not in CHECKS:
            raise refused(
                f"--only {name}: there is no such check{suggestion(name, list(CHECKS))}",
                code="doctor_unknown_check", hint=f"--only with one of: {', '.join(CHECKS)}",
            )  # fmt: skip
    code = 0
    chosen = {name: check for name, check in CHECKS.items() if not only or name in only}
    with Visit(ctx, timeout_s=timeout_s) as visit, progress.counting("checks", len(chosen)) as count:
        for name, check in chosen.items():
            count.now(name)
            looks = [(name, check.look)]
            if name == "connection" and all_targets:
                looks.append((OTHER_TARGETS, connection.other_targets))
            for told, look in looks:
                for line in _lines(told, look, visit):
                    yield line
                    if line.verdict == "fail":
                        code = max(code, check.exit_code)
            count.add()
    return code


def _lines(name: str, look: Look, visit: Visit) -> Iterator[SetupCheck]:
    """What a check finds, a line each; what it raises is its last finding."""
    began = time.monotonic()
    for found in _safely(look, visit):
        took = round(time.monotonic() - began, 3)
        began = time.monotonic()
        yield SetupCheck(check=name, verdict=found.verdict, found=redact(found.what), next=found.next and redact(found.next),
                         duration_s=took)  # fmt: skip


def _safely(look: Look, visit: Visit) -> Iterator[Found]:
    try:
        yield from look(visit)
    except NotThere as what:
        yield Found(what.verdict, f"not looked at: {what} is not there{'' if what.verdict == 'ok' else ', see above'}")
    except SluiceError as problem:
        yield as_found(problem, "ok" if is_to_come(problem) else "fail")
    except Exception as problem:  # whatever it is, the other checks go on
        visit.ctx.log.info("traceback", exc_info=problem, extra={"file_only": True})
        yield Found("fail", f"the check itself failed: {problem!r}", "sluice-doctor -v; please report it")

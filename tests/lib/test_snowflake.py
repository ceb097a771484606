"""Snowflake, on an emulator: that its set-up runs, and that its decision is that of restart.decide. Procedures and tasks run nowhere here."""

import re
from dataclasses import replace

import pytest
from emulated import ask, bound, decisions, given_to_dbt, log, run
from restarts import NOW, History, Log
from test_restart import FAILS, FULL, NAMES, SECONDS, SPOILED, a_retry, a_run, decided

from sluice import snowflake
from sluice.config import ROOT
from sluice.restart import Outcome, PastRun, Policy

HISTORIES = 500


def a_log(job: str, *failure: PastRun, **policy) -> Log:
    """What these runs leave in the log of a job; the ids of its runs are its own."""
    log = Log(job, Policy(**policy))
    for past in failure:
        retry_of = f"{job}/{past.retry_of}" if past.retry_of else None
        told = replace(past, run_id=f"{job}/{past.run_id}", retry_of=retry_of)
        log.tell(told, {uid: past.outcomes[uid].status for uid in past.checksums if uid in past.outcomes}, SECONDS)
    return log


def test_three_retries_of_one_failure_and_then_everything() -> None:
    night_before = a_run("run-0", hours_ago=30, status="SUCCESS", outcomes=dict.fromkeys(NAMES, Outcome("ok")))
    runs = [night_before, a_run(), *(a_retry(number, hours_ago=5 - number) for number in (1, 2, 3))]
    found = decisions([a_log(f"job{number}", *runs[: number + 1]) for number in (1, 2, 3, 4)])
    for number in (1, 2, 3):
        said = found[f"job{number}"]
        assert said["reason"] == f"retry {number} of 3: m15 failed 6 h ago; 6 of 25 models, about 60 s instead of 250 s"
        assert said["selector"].split() == ["m15+", *(f"m{n}+" for n in range(21, 26))]
        assert (said["action"], said["retry"], said["retry_of"]) == ("retry", number, f"job{number}/run-1")
        assert (said["models"], said["total"], said["saved_s"]) == (6, 25, 190)
    said = found["job4"]
    assert (said["action"], said["selector"], said["models"]) == ("full", None, 25)
    assert said["reason"] == "everything: 3 retries did not help: m15 failed 6 h ago"


def test_the_cases_of_the_other_implementation() -> None:
    """All but those of flags, of code and of vars, of which the log in a warehouse knows nothing."""
    cases = {
        f"job{number}": (failure, policy)
        for number, (failure, policy, _) in enumerate(FULL.values())
        if policy.keys() <= {"max_retry_age_hours", "max_attempts"}
    }
    assert len(cases) == 9
    found = decisions([a_log(job, *failure, **policy) for job, (failure, policy) in cases.items()])
    for job, (failure, policy) in cases.items():
        assert (found[job]["reason"], found[job]["action"]) == (decided(*failure, **policy)[0].reason, "full")


def test_a_run_that_was_cut_off_before_dbt_said_anything_is_no_ground_for_a_retry() -> None:
    said = decisions([a_log("shop", a_run(status="RUNNING", outcomes={}))])["shop"]
    assert (said["action"], said["running_session"]) == ("full", 4711)
    assert said["reason"] == "everything: the last run was cut off 6 h ago, and no model is known to have failed"


def test_a_name_that_dbt_would_not_take_for_one_builds_everything() -> None:
    logs = []
    for name in ("m15 --full-refresh", "m15'", "1+m15", "@m15", "é", ""):
        log = a_log(f"job {name}", a_run())
        log.nodes.append({**log.nodes[14], "unique_id": f"model.shop.{name}", "model_name": name})
        logs.append(log)
    for job, said in decisions(logs).items():
        assert (said["action"], said["selector"]) == ("full", None), job
        assert said["reason"].endswith("and the name of one cannot be given to dbt")


def test_a_failed_test_runs_the_model_it_tests_again() -> None:
    test = "test.shop.not_null_m15_id.0123abcdef"
    log = Log("shop")
    log.tell(
        a_run(),
        {**dict.fromkeys(NAMES, "ok"), test: "failed", **dict.fromkeys(SPOILED, "skipped")},
        {**SECONDS, test: 0.1},
    )
    found = decisions([log])["shop"]
    assert found["selector"] == " ".join([*(f"m{n}+" for n in range(21, 26)), "1+not_null_m15_id+"])
    assert (
        found["reason"]
        == "retry 1 of 3: not_null_m15_id failed 6 h ago; 5 of 25 models and those that 1 failed test reads"
    )
    assert found["saved_s"] is None  # how long the tested model takes is not known to be saved


def test_both_implementations_decide_the_same_on_generated_histories() -> None:
    histories = [History(f"job{seed}", seed=seed, has_tests=seed % 2 == 1) for seed in range(HISTORIES)]
    found = decisions(histories)
    retries = 0
    for history in histories:
        decision, chosen = history.decided()
        other = found[history.job]
        assert (other["action"], other["retry"], other["retry_of"]) == (
            decision.action,
            decision.retry,
            decision.retry_of,
        ), history.seed
        no_test_failed = all(node["status"] != "FAIL" for node in history.nodes)  # a warehouse's log names the test
        if no_test_failed:
            assert other["reason"] == decision.reason, history.seed
        if decision.action == "retry":
            retries += 1
            assert selected(history, other["selector"]) == set(chosen), history.seed
            if no_test_failed:
                counted = (other["models"], other["total"])
                assert counted == (decision.models, decision.total), history.seed
                timed = [other["estimate_s"], other["full_s"], other["saved_s"]]
                assert timed == pytest.approx([decision.estimate_s, decision.full_s, decision.saved_s], abs=0.0015), (
                    history.seed
                )
    assert HISTORIES / 8 < retries < HISTORIES / 2


def selected(history: History, selector: str) -> set[str]:
    """The models that dbt would select: `name+` with all that depends on it, `1+name+` with what it reads as well."""
    by_name = {uid.split(".")[2]: uid for uid in [*history.models, *history.tests]}
    found: set[str] = set()
    for word in selector.split():
        uid = by_name[word.removeprefix("1+").removesuffix("+")]
        found |= {uid, *history.descendants(uid)}
        found |= set(history.tests[uid]) if word.startswith("1+") else set()
    return found & set(history.models)


def test_what_the_procedure_writes_is_what_the_history_shows() -> None:
    before = a_log("shop", a_run())
    values = {
        "job": "shop", "run_id": "run-2", "intent": "retry", "attempt": 2, "args": "build --select m15+", "own_session": 4712, "models": 6,
        "retry_of": "run-1", "reason": "retry 1 of 3: it's a 'quote'", "total": 25, "saved_s": 190.0, "decided_at": NOW, "problem": "boom",
    }  # fmt: skip
    nodes = Log("shop")
    nodes.tell(replace(a_retry(1), run_id="run-2"), {FAILS: "failed", **dict.fromkeys(SPOILED, "skipped")}, SECONDS)
    nodes.events = [event for event in nodes.events if event["intent"] == "dbt"]
    rows = run(
        *log([before]),
        bound(snowflake.statement("record_beginning"), **values),
        *log([nodes]),
        bound(snowflake.statement("record_end"), **values),
        """SELECT run_type, retry_sequence, run_status, models_run, models_failed, models_planned, models_total, saved_seconds,
               saved_seconds_so_far, decision FROM sluice.v_auto_restart_history ORDER BY run_started_at DESC""",
    )
    assert rows[0] == ["retry", 1, "FAILED", 1, 1, 6, 25, 190.0, 190.0, "retry 1 of 3: it's a 'quote'"]
    assert rows[1][:3] == ["full", 0, "FAILED"]


def test_what_is_given_to_dbt_stays_inside_its_literal() -> None:
    given = ["build", "build --vars '{\"a\": 1}'", "x' ; drop table t --", "back\\slash\\", "\\'"]
    statements = given_to_dbt(given)
    assert statements[0] == "EXECUTE DBT PROJECT shop ARGS = 'build'"
    literals = ask(*({"run": f"SELECT {statement.partition('ARGS = ')[2]}"} for statement in statements))
    assert [answer["rows"] for answer in literals] == [[[args]] for args in given]


def test_the_set_up_is_put_together_from_its_files_and_runs_twice() -> None:
    """The drift of the generated file is refused by `make lint`; here, that each statement is in it, and what it is made of is whole."""
    whole = (ROOT / "sql/snowflake/auto_restart.sql").read_text()
    assert whole == snowflake.set_up()
    body = snowflake.procedures()[1]
    for name in ("decision", "at_work", "record_beginning", "record_end", "failures"):
        for line in snowflake.statement(name).splitlines():
            assert line.strip() in body, f"{name}: {line}"
    assert not re.search(r"^\s*\{\w+\}$", body, re.MULTILINE) and body.count("$$") == 2
    run(*snowflake.tables(), *snowflake.views())


def test_every_file_can_be_read_by_a_parser_of_snowflake() -> None:
    files = [
        *sorted((ROOT / "sql/snowflake").glob("*.sql")),
        *sorted((ROOT / "sql/state/snowflake").glob("*.sql")),
        ROOT / "sql/grants/snowflake.sql",
    ]
    for path, answer in zip(files, ask(*({"parse": path.read_text()} for path in files)), strict=True):
        assert answer.get("parsed"), f"{path}: {answer}"
        if path.stem not in (
            "tasks",
            "snowflake",
        ):  # of tasks and roles the parser knows no more than that they are statements
            assert "Command" not in answer["parsed"], path


def test_tearing_down_leaves_nothing() -> None:
    """Less the procedures, which the emulator does not have, and the schema, which goes when it is empty."""
    lines = [
        line.rstrip(";")
        for line in (ROOT / "sql/snowflake/tear_down.sql").read_text().splitlines()
        if line.startswith("DROP")
    ]
    made = {
        re.split(r"[\s(]", sql.partition("sluice.")[2])[0] for sql in [*snowflake.tables()[1:-1], *snowflake.views()]
    }
    assert made <= {re.split(r"[\s(]", line.partition("sluice.")[2])[0] for line in lines}
    left = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'SLUICE'"
    assert run(*(line for line in lines if "VIEW" in line or "TABLE" in line), left) == [[0]]


def test_dbts_hooks_make_the_same_tables() -> None:
    macro = (ROOT / "sql/dbt/macros/audit/audit_tables.sql").read_text().partition("macro snowflake__audit_tables")[2]
    made = [
        sql.replace("{{ at }}", '"SLUICE"')
        for sql in re.findall(r"\{%- set s\d+ -%\}\n(.*?)\n    \{%- endset", macro, re.DOTALL)
    ]
    assert len(made) == 8
    row = """INSERT INTO "SLUICE".RUN_EVENT ("EVENT", "AT", "RUN_ID", "ROOT_RUN_ID", "PLAN_ID", "PROJECT_NAME", "ENVIRONMENT", "INTENT", "ATTEMPT")
             VALUES ('began', '2026-04-17 08:00:00.123+00:00', 'r', 'r', 'r', 'shop', 'dev', 'dbt', 1)"""
    answers = ask(
        *({"run": sql} for sql in [*made, *made, row, 'SELECT run_status, run_started_at FROM "SLUICE".run_log'])
    )
    assert not [answer for answer in answers if "error" in answer]
    assert answers[-1]["rows"] == [["RUNNING", "2026-04-17 08:00:00.123000+00:00"]]

-- run_event: what happened to each run, append only. One run is one attempt to carry out a plan.
-- Written by run-dbt-batch (began, ended) and sluice-state (discarded).
CREATE TABLE run_event (
    seq              INTEGER  PRIMARY KEY AUTOINCREMENT,  -- order of writing
    event            TEXT     NOT NULL CHECK (event IN ('began', 'ended', 'discarded')),
    at               TEXT     NOT NULL,                   -- RFC 3339, UTC, milliseconds
    run_id           TEXT     NOT NULL,
    root_run_id      TEXT     NOT NULL,                   -- the run that first began this plan
    plan_id          TEXT     NOT NULL,
    project_name     TEXT     NOT NULL,
    environment      TEXT     NOT NULL,                   -- the dbt target
    intent           TEXT     NOT NULL,                   -- full_refresh, daily, refill, retry
    attempt          INTEGER  NOT NULL,                   -- 1 for the first run, then counted up by each resume or retry
    run_status       TEXT,                                -- ended: SUCCESS, FAILED, CANCELLED
    models_run       INTEGER,
    models_failed    INTEGER,
    plan             TEXT,                                -- began: the plan record, JSON
    argv             TEXT,                                -- began: the command, JSON
    host             TEXT,
    pid              INTEGER,
    code_version     TEXT,                                -- version of Sluice
    message          TEXT,
    vars             TEXT,                                -- began: the vars that were asked for, JSON
    retry_of         TEXT,                                -- began: the run whose failure is retried; null, it is no retry
    decision         TEXT,                                -- began: why the plan is what it is, in words
    models_planned   INTEGER,                             -- began: models that it is to run
    models_total     INTEGER,                             -- began: models that a full build would run
    saved_seconds    REAL                                 -- began: measured seconds of the models that did not run again
);
CREATE INDEX run_event_root ON run_event (root_run_id);
CREATE INDEX run_event_retry ON run_event (retry_of);
CREATE INDEX run_event_run ON run_event (run_id);

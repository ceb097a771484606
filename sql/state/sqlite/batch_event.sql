-- batch_event: intent before and outcome after each attempt at a batch, append only.
-- An intent without an outcome means that the process died in between: the outcome is unknown. Where nobody but a
-- person can know it, `sluice-state resolve` writes `resolved`, with status ok (rows are there) or null (do it again).
CREATE TABLE batch_event (
    seq              INTEGER  PRIMARY KEY AUTOINCREMENT,
    event            TEXT     NOT NULL CHECK (event IN ('intent', 'outcome', 'resolved')),
    at               TEXT     NOT NULL,
    run_id           TEXT     NOT NULL,
    root_run_id      TEXT     NOT NULL,
    plan_id          TEXT     NOT NULL,
    batch_id         TEXT     NOT NULL,                   -- hash of project, target, model, stage, window, vars, mode
    batch_seq        INTEGER  NOT NULL,                   -- place in the plan, from 1
    model_name       TEXT,
    stage            TEXT     NOT NULL,
    window_start     TEXT,                                -- first day of the window, included
    window_end       TEXT,                                -- last day of the window, excluded
    full_refresh     INTEGER  NOT NULL,                   -- 1: it replaces its model's table, and so all rows written before
    attempt          INTEGER  NOT NULL,
    status           TEXT,                                -- outcome: ok, failed, skipped, cancelled
    duration_seconds REAL,
    message          TEXT,
    result           TEXT                                 -- outcome: the batch_result record, JSON
);
CREATE INDEX batch_event_root ON batch_event (root_run_id, batch_id);
CREATE INDEX batch_event_run ON batch_event (run_id);

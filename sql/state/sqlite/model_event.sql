-- model_event: what became of each dbt node, append only; the source of model history.
CREATE TABLE model_event (
    seq              INTEGER  PRIMARY KEY AUTOINCREMENT,
    at               TEXT     NOT NULL,
    run_id           TEXT     NOT NULL,
    project_name     TEXT     NOT NULL,
    model_name       TEXT     NOT NULL,
    unique_id        TEXT     NOT NULL,
    batch_id         TEXT     NOT NULL,
    status           TEXT     NOT NULL,                   -- SUCCESS, ERROR, SKIPPED
    duration_seconds REAL     NOT NULL,
    rows_affected    INTEGER,
    message          TEXT,
    schema_name      TEXT,
    database_name    TEXT,
    materialization  TEXT,
    is_incremental   INTEGER,                             -- 1: rows were added, 0: the relation was made anew
    started_at       TEXT,                                -- of the batch in which it ran
    ended_at         TEXT
);
CREATE INDEX model_event_run ON model_event (run_id);
CREATE INDEX model_event_node ON model_event (unique_id);

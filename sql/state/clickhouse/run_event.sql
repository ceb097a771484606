-- run_event: what happened to each run, append only. One run is one attempt to carry out a plan. Written by run-dbt-
-- batch (began, ended) and sluice-state (discarded).
CREATE TABLE run_event (
    seq              UInt64 DEFAULT generateSnowflakeID() COMMENT 'order of writing',
    event            String                 COMMENT 'began, ended or discarded',
    at               DateTime64(3, 'UTC')   COMMENT 'when it was written, UTC',
    run_id           String                 COMMENT 'UUIDv7 of the run',
    root_run_id      String                 COMMENT 'the run that first began this plan',
    plan_id          String                 COMMENT 'hash of what the plan would do',
    project_name     String                 COMMENT 'the dbt project',
    environment      String                 COMMENT 'the dbt target',
    intent           String                 COMMENT 'full_refresh, daily, refill, retry',
    attempt          Int64                  COMMENT '1 for the first run, then counted up by each resume or retry',
    run_status       Nullable(String)       COMMENT 'ended: SUCCESS, FAILED, CANCELLED',
    models_run       Nullable(Int64)        COMMENT 'ended: models that were run',
    models_failed    Nullable(Int64)        COMMENT 'ended: models that failed',
    plan             Nullable(String)       COMMENT 'began: the plan record, JSON',
    argv             Nullable(String)       COMMENT 'began: the command, JSON',
    host             Nullable(String)       COMMENT 'began: where it runs',
    pid              Nullable(Int64)        COMMENT 'began: its process there',
    code_version     Nullable(String)       COMMENT 'began: version of Sluice',
    message          Nullable(String)       COMMENT 'ended: why, when it did not end well',
    vars             Nullable(String)       COMMENT 'began: the vars that were asked for, JSON',
    retry_of         Nullable(String)       COMMENT 'began: the run whose failure is retried; null, it is no retry',
    decision         Nullable(String)       COMMENT 'began: why the plan is what it is, in words',
    models_planned   Nullable(Int64)        COMMENT 'began: models that it is to run',
    models_total     Nullable(Int64)        COMMENT 'began: models that a full build would run',
    saved_seconds    Nullable(Float64)      COMMENT 'began: measured seconds of the models that did not run again'
) ENGINE = MergeTree
ORDER BY (run_id, seq)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'what happened to each run, append only. One run is one attempt to carry out a plan. Written by run-dbt-batch (began, ended) and sluice-state (discarded)';

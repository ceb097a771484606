-- run_event: what happened to each run, append only. Written by RUN_DBT_AUTO_RESTART (daily, retry) and the hooks of dbt (dbt).
CREATE TABLE run_event (
    seq              NUMBER(38, 0) AUTOINCREMENT START 1 INCREMENT 1 ORDER COMMENT 'order of writing',
    event            VARCHAR NOT NULL         COMMENT 'began, ended or discarded',
    "AT"             TIMESTAMP_TZ(3) NOT NULL COMMENT 'when it was written, UTC',
    run_id           VARCHAR NOT NULL         COMMENT 'id of the run; dbt: its invocation_id',
    root_run_id      VARCHAR NOT NULL         COMMENT 'the run that this invocation of dbt belongs to',
    plan_id          VARCHAR NOT NULL         COMMENT 'hash of what the plan would do',
    project_name     VARCHAR NOT NULL         COMMENT 'the dbt project',
    environment      VARCHAR NOT NULL         COMMENT 'the dbt target',
    intent           VARCHAR NOT NULL         COMMENT 'daily, retry; dbt: one invocation',
    attempt          NUMBER(38, 0) NOT NULL   COMMENT '1 for the first run, then counted up by each resume or retry',
    run_status       VARCHAR                  COMMENT 'ended: SUCCESS, FAILED, CANCELLED',
    models_run       NUMBER(38, 0)            COMMENT 'ended: models that were run',
    models_failed    NUMBER(38, 0)            COMMENT 'ended: models that failed',
    plan             VARCHAR                  COMMENT 'began: the plan record, JSON',
    argv             VARCHAR                  COMMENT 'began: the command, JSON',
    host             VARCHAR                  COMMENT 'began: where it runs',
    pid              NUMBER(38, 0)            COMMENT 'began: the session of the procedure',
    code_version     VARCHAR                  COMMENT 'began: version of Sluice',
    message          VARCHAR                  COMMENT 'ended: why, when it did not end well',
    vars             VARCHAR                  COMMENT 'began: the vars that were asked for, JSON',
    retry_of         VARCHAR                  COMMENT 'began: the run whose failure is retried; null, it is no retry',
    decision         VARCHAR                  COMMENT 'began: why the plan is what it is, in words',
    models_planned   NUMBER(38, 0)            COMMENT 'began: models that it is to run',
    models_total     NUMBER(38, 0)            COMMENT 'began: models that a full build would run',
    saved_seconds    DOUBLE                   COMMENT 'began: measured seconds of the models that did not run again'
)
COMMENT = 'what happened to each run, append only. One run is one attempt to carry out a plan. Written by RUN_DBT_AUTO_RESTART and the hooks of dbt';

-- In a DuckDB file only the hooks of dbt write here: the state of Sluice itself is kept elsewhere.
-- run_event: what happened to each run, append only. One run is one invocation of dbt.
CREATE TABLE run_event (
    seq              bigint DEFAULT nextval('event_seq'),
    event            text             NOT NULL CHECK (event IN ('began', 'ended', 'discarded')),
    "at"             timestamptz      NOT NULL,
    run_id           text             NOT NULL,
    root_run_id      text             NOT NULL,
    plan_id          text             NOT NULL,
    project_name     text             NOT NULL,
    environment      text             NOT NULL,
    intent           text             NOT NULL,
    attempt          bigint           NOT NULL,
    run_status       text,
    models_run       bigint,
    models_failed    bigint,
    plan             text,
    argv             text,
    host             text,
    pid              bigint,
    code_version     text,
    message          text,
    vars             text,
    retry_of         text,
    decision         text,
    models_planned   bigint,
    models_total     bigint,
    saved_seconds    double,
    PRIMARY KEY (seq)
);
COMMENT ON TABLE run_event IS 'what happened to each run, append only. One run is one attempt to carry out a plan. Written by the hooks of dbt';
COMMENT ON COLUMN run_event.seq IS 'order of writing';
COMMENT ON COLUMN run_event.event IS 'began, ended or discarded';
COMMENT ON COLUMN run_event."at" IS 'when it was written, UTC';
COMMENT ON COLUMN run_event.run_id IS 'UUIDv7 of the run';
COMMENT ON COLUMN run_event.root_run_id IS 'the run that first began this plan';
COMMENT ON COLUMN run_event.plan_id IS 'hash of what the plan would do';
COMMENT ON COLUMN run_event.project_name IS 'the dbt project';
COMMENT ON COLUMN run_event.environment IS 'the dbt target';
COMMENT ON COLUMN run_event.intent IS 'full_refresh, daily, refill, retry';
COMMENT ON COLUMN run_event.attempt IS '1 for the first run, then counted up by each resume or retry';
COMMENT ON COLUMN run_event.run_status IS 'ended: SUCCESS, FAILED, CANCELLED';
COMMENT ON COLUMN run_event.models_run IS 'ended: models that were run';
COMMENT ON COLUMN run_event.models_failed IS 'ended: models that failed';
COMMENT ON COLUMN run_event.plan IS 'began: the plan record, JSON';
COMMENT ON COLUMN run_event.argv IS 'began: the command, JSON';
COMMENT ON COLUMN run_event.host IS 'began: where it runs';
COMMENT ON COLUMN run_event.pid IS 'began: its process there';
COMMENT ON COLUMN run_event.code_version IS 'began: version of Sluice';
COMMENT ON COLUMN run_event.message IS 'ended: why, when it did not end well';
COMMENT ON COLUMN run_event.vars IS 'began: the vars that were asked for, JSON';
COMMENT ON COLUMN run_event.retry_of IS 'began: the run whose failure is retried; null, it is no retry';
COMMENT ON COLUMN run_event.decision IS 'began: why the plan is what it is, in words';
COMMENT ON COLUMN run_event.models_planned IS 'began: models that it is to run';
COMMENT ON COLUMN run_event.models_total IS 'began: models that a full build would run';
COMMENT ON COLUMN run_event.saved_seconds IS 'began: measured seconds of the models that did not run again';

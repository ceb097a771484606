-- model_event: what became of each dbt node, append only; the source of model history.
CREATE TABLE model_event (
    seq              bigint DEFAULT nextval('event_seq'),
    "at"             timestamptz      NOT NULL,
    run_id           text             NOT NULL,
    project_name     text             NOT NULL,
    model_name       text             NOT NULL,
    unique_id        text             NOT NULL,
    batch_id         text             NOT NULL,
    status           text             NOT NULL,
    duration_seconds double           NOT NULL,
    rows_affected    bigint,
    message          text,
    schema_name      text,
    database_name    text,
    materialization  text,
    is_incremental   boolean,
    started_at       timestamptz,
    ended_at         timestamptz,
    PRIMARY KEY (seq)
);
COMMENT ON TABLE model_event IS 'what became of each dbt node, append only; the source of model history';
COMMENT ON COLUMN model_event.seq IS 'order of writing';
COMMENT ON COLUMN model_event."at" IS 'when it was written, UTC';
COMMENT ON COLUMN model_event.run_id IS 'the run';
COMMENT ON COLUMN model_event.project_name IS 'the dbt project';
COMMENT ON COLUMN model_event.model_name IS 'its name';
COMMENT ON COLUMN model_event.unique_id IS 'dbt''s id of the node';
COMMENT ON COLUMN model_event.batch_id IS 'the batch in which it ran';
COMMENT ON COLUMN model_event.status IS 'SUCCESS, ERROR, SKIPPED';
COMMENT ON COLUMN model_event.duration_seconds IS 'seconds that dbt measured';
COMMENT ON COLUMN model_event.rows_affected IS 'rows that the adapter says it wrote';
COMMENT ON COLUMN model_event.message IS 'the warehouse''s words';
COMMENT ON COLUMN model_event.schema_name IS 'where the model is kept';
COMMENT ON COLUMN model_event.database_name IS 'where the model is kept';
COMMENT ON COLUMN model_event.materialization IS 'how the model is kept';
COMMENT ON COLUMN model_event.is_incremental IS 'true: rows were added, false: the relation was made anew';
COMMENT ON COLUMN model_event.started_at IS 'beginning of the batch in which it ran';
COMMENT ON COLUMN model_event.ended_at IS 'end of the batch in which it ran';

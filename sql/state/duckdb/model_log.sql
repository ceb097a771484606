-- model_log: one row for each time that a model ran, or was skipped.
CREATE VIEW model_log AS
SELECT
    CAST(seq AS TEXT)                            AS log_id,
    run_id,
    project_name,
    model_name,
    unique_id,
    schema_name,
    database_name,
    materialization,
    batch_id,
    status,
    started_at,
    ended_at,
    rows_affected,
    is_incremental,
    message,
    duration_seconds
FROM model_event;
COMMENT ON VIEW model_log IS 'one row for each time that a model ran, or was skipped';
COMMENT ON COLUMN model_log.log_id IS 'id of the row';
COMMENT ON COLUMN model_log.run_id IS 'whose it is';
COMMENT ON COLUMN model_log.project_name IS 'the dbt project';
COMMENT ON COLUMN model_log.model_name IS 'unique_id of the model; null, a whole selection';
COMMENT ON COLUMN model_log.unique_id IS 'dbt''s id of the model';
COMMENT ON COLUMN model_log.schema_name IS 'where the model is kept';
COMMENT ON COLUMN model_log.database_name IS 'where the model is kept';
COMMENT ON COLUMN model_log.materialization IS 'how the model is kept';
COMMENT ON COLUMN model_log.batch_id IS 'hash of project, target, model, stage, window, vars, mode';
COMMENT ON COLUMN model_log.status IS 'SUCCESS, ERROR, SKIPPED';
COMMENT ON COLUMN model_log.started_at IS 'beginning of the batch in which it ran';
COMMENT ON COLUMN model_log.ended_at IS 'end of the batch in which it ran';
COMMENT ON COLUMN model_log.rows_affected IS 'rows that the adapter says it wrote';
COMMENT ON COLUMN model_log.is_incremental IS 'true: rows were added, false: the relation was made anew';
COMMENT ON COLUMN model_log.message IS 'the error';
COMMENT ON COLUMN model_log.duration_seconds IS 'seconds';

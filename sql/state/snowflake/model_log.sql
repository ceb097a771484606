-- model_log: one row for each time that a model ran, or was skipped.
CREATE VIEW model_log (
    log_id               COMMENT 'id of the row',
    run_id               COMMENT 'whose it is',
    project_name         COMMENT 'the dbt project',
    model_name           COMMENT 'unique_id of the model; null, a whole selection',
    unique_id            COMMENT 'dbt''s id of the model',
    schema_name          COMMENT 'where the model is kept',
    database_name        COMMENT 'where the model is kept',
    materialization      COMMENT 'how the model is kept',
    batch_id             COMMENT 'hash of project, target, model, stage, window, vars, mode',
    status               COMMENT 'SUCCESS, ERROR, SKIPPED',
    started_at           COMMENT 'beginning of the batch in which it ran',
    ended_at             COMMENT 'end of the batch in which it ran',
    rows_affected        COMMENT 'rows that the adapter says it wrote',
    is_incremental       COMMENT 'true: rows were added, false: the relation was made anew',
    message              COMMENT 'the error',
    duration_seconds     COMMENT 'seconds'
)
COMMENT = 'one row for each time that a model ran, or was skipped' AS
SELECT
    CAST(seq AS VARCHAR)                          AS log_id,
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

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

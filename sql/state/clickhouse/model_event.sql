-- model_event: what became of each dbt node, append only; the source of model history.
CREATE TABLE model_event (
    seq              UInt64 DEFAULT generateSnowflakeID() COMMENT 'order of writing',
    at               DateTime64(3, 'UTC')   COMMENT 'when it was written, UTC',
    run_id           String                 COMMENT 'the run',
    project_name     String                 COMMENT 'the dbt project',
    model_name       String                 COMMENT 'its name',
    unique_id        String                 COMMENT 'dbt''s id of the node',
    batch_id         String                 COMMENT 'the batch in which it ran',
    status           String                 COMMENT 'SUCCESS, ERROR, SKIPPED',
    duration_seconds Float64                COMMENT 'seconds that dbt measured',
    rows_affected    Nullable(Int64)        COMMENT 'rows that the adapter says it wrote',
    message          Nullable(String)       COMMENT 'the warehouse''s words',
    schema_name      Nullable(String)       COMMENT 'where the model is kept',
    database_name    Nullable(String)       COMMENT 'where the model is kept',
    materialization  Nullable(String)       COMMENT 'how the model is kept',
    is_incremental   Nullable(Bool)         COMMENT 'true: rows were added, false: the relation was made anew',
    started_at       Nullable(DateTime64(3, 'UTC')) COMMENT 'beginning of the batch in which it ran',
    ended_at         Nullable(DateTime64(3, 'UTC')) COMMENT 'end of the batch in which it ran'
) ENGINE = MergeTree
ORDER BY (run_id, seq)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'what became of each dbt node, append only; the source of model history';

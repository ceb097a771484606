-- model_event: what became of each dbt node, append only; the source of model history.
CREATE TABLE model_event (
    seq              NUMBER(38, 0) AUTOINCREMENT START 1 INCREMENT 1 ORDER COMMENT 'order of writing',
    "AT"             TIMESTAMP_TZ(3) NOT NULL COMMENT 'when it was written, UTC',
    run_id           VARCHAR NOT NULL         COMMENT 'the run',
    project_name     VARCHAR NOT NULL         COMMENT 'the dbt project',
    model_name       VARCHAR NOT NULL         COMMENT 'its name',
    unique_id        VARCHAR NOT NULL         COMMENT 'dbt''s id of the node',
    batch_id         VARCHAR NOT NULL         COMMENT 'the batch in which it ran',
    status           VARCHAR NOT NULL         COMMENT 'SUCCESS, ERROR, SKIPPED',
    duration_seconds DOUBLE NOT NULL          COMMENT 'seconds that dbt measured',
    rows_affected    NUMBER(38, 0)            COMMENT 'rows that the adapter says it wrote',
    message          VARCHAR                  COMMENT 'the warehouse''s words',
    schema_name      VARCHAR                  COMMENT 'where the model is kept',
    database_name    VARCHAR                  COMMENT 'where the model is kept',
    materialization  VARCHAR                  COMMENT 'how the model is kept',
    is_incremental   BOOLEAN                  COMMENT 'true: rows were added, false: the relation was made anew',
    started_at       TIMESTAMP_TZ(3)          COMMENT 'beginning of the batch in which it ran',
    ended_at         TIMESTAMP_TZ(3)          COMMENT 'end of the batch in which it ran'
)
COMMENT = 'what became of each dbt node, append only; the source of model history';

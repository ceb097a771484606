-- batch_event: intent before and outcome after each attempt at a batch, append only. An intent without an outcome: the
-- process died in between. Where nobody but a person can know what became of it, sluice-state resolve writes resolved,
-- with status ok (rows are there) or null (do it again).
CREATE TABLE batch_event (
    seq              UInt64 DEFAULT generateSnowflakeID() COMMENT 'order of writing',
    event            String                 COMMENT 'intent, outcome or resolved',
    at               DateTime64(3, 'UTC')   COMMENT 'when it was written, UTC',
    run_id           String                 COMMENT 'the run',
    root_run_id      String                 COMMENT 'the run that first began this plan',
    plan_id          String                 COMMENT 'the plan',
    batch_id         String                 COMMENT 'hash of project, target, model, stage, window, vars, mode',
    batch_seq        Int64                  COMMENT 'place in the plan, from 1',
    model_name       Nullable(String)       COMMENT 'unique_id of the model; null, a whole selection',
    stage            String                 COMMENT 'the slice that is not time',
    window_start     Nullable(Date32)       COMMENT 'first day of the window, included',
    window_end       Nullable(Date32)       COMMENT 'last day of the window, excluded',
    full_refresh     Bool                   COMMENT 'it replaces its model''s table, and so all rows written before',
    attempt          Int64                  COMMENT 'from 1, over all runs of the plan',
    status           Nullable(String)       COMMENT 'outcome: ok, failed, skipped, cancelled',
    duration_seconds Nullable(Float64)      COMMENT 'outcome: seconds',
    message          Nullable(String)       COMMENT 'outcome: the error',
    result           Nullable(String)       COMMENT 'outcome: the batch_result record, JSON'
) ENGINE = MergeTree
ORDER BY (root_run_id, batch_id, seq)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'intent before and outcome after each attempt at a batch, append only. An intent without an outcome: the process died in between. Where nobody but a person can know what became of it, sluice-state resolve writes resolved, with status ok (rows are there) or null (do it again)';

-- batch_log: one row a batch of a plan (root_run_id), its latest state. Status unknown: begun, outcome never recorded.
CREATE VIEW batch_log AS
SELECT DISTINCT ON (root_run_id, batch_id)
    root_run_id,
    run_id,
    plan_id,
    batch_id,
    batch_seq,
    model_name,
    stage,
    window_start,
    window_end,
    full_refresh,
    attempt,
    at,
    coalesce(status, 'unknown')                  AS status,
    duration_seconds,
    message
FROM batch_event
ORDER BY root_run_id, batch_id, seq DESC;
COMMENT ON VIEW batch_log IS 'one row a batch of a plan (root_run_id), its latest state. Status unknown: begun, outcome never recorded';
COMMENT ON COLUMN batch_log.root_run_id IS 'the run that first began this plan';
COMMENT ON COLUMN batch_log.run_id IS 'whose it is';
COMMENT ON COLUMN batch_log.plan_id IS 'the plan';
COMMENT ON COLUMN batch_log.batch_id IS 'hash of project, target, model, stage, window, vars, mode';
COMMENT ON COLUMN batch_log.batch_seq IS 'place in the plan, from 1';
COMMENT ON COLUMN batch_log.model_name IS 'unique_id of the model; null, a whole selection';
COMMENT ON COLUMN batch_log.stage IS 'the slice that is not time';
COMMENT ON COLUMN batch_log.window_start IS 'first day of the window, included';
COMMENT ON COLUMN batch_log.window_end IS 'last day of the window, excluded';
COMMENT ON COLUMN batch_log.full_refresh IS 'it replaces its model''s table, and so all rows written before';
COMMENT ON COLUMN batch_log.attempt IS 'the latest attempt, from 1';
COMMENT ON COLUMN batch_log.at IS 'when it got there, UTC';
COMMENT ON COLUMN batch_log.status IS 'ok, failed, skipped, cancelled, unknown';
COMMENT ON COLUMN batch_log.duration_seconds IS 'seconds';
COMMENT ON COLUMN batch_log.message IS 'the error';

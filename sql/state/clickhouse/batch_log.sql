-- batch_log: one row a batch of a plan (root_run_id), its latest state. Status unknown: begun, outcome never recorded.
CREATE VIEW batch_log AS
SELECT
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
    coalesce(latest.status, 'unknown')           AS status,
    duration_seconds,
    message
FROM batch_event AS latest
ORDER BY seq DESC
LIMIT 1 BY root_run_id, batch_id
COMMENT 'one row a batch of a plan (root_run_id), its latest state. Status unknown: begun, outcome never recorded';

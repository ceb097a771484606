-- batch_log: one row a batch of a plan (root_run_id), its latest state. Status unknown: begun, outcome never recorded.
CREATE VIEW batch_log AS
SELECT
    latest.root_run_id,
    latest.run_id,
    latest.plan_id,
    latest.batch_id,
    latest.batch_seq,
    latest.model_name,
    latest.stage,
    latest.window_start,
    latest.window_end,
    latest.full_refresh,
    latest.attempt,
    latest.at,
    coalesce(latest.status, 'unknown')           AS status,
    latest.duration_seconds,
    latest.message
FROM batch_event latest
WHERE latest.seq = (SELECT max(e.seq) FROM batch_event e WHERE e.root_run_id = latest.root_run_id AND e.batch_id = latest.batch_id);

-- run_log: one row a run, its latest state. RUNNING means that no end was recorded: it runs, or it was killed.
CREATE VIEW run_log AS
SELECT
    began.run_id,
    began.project_name,
    began.environment,
    began.at                                     AS run_started_at,
    ended.at                                     AS run_ended_at,
    round((julianday(ended.at) - julianday(began.at)) * 86400.0, 3) AS run_duration_seconds,
    coalesce(ended.run_status, 'RUNNING')        AS run_status,
    ended.models_run,
    ended.models_failed,
    began.intent,
    began.attempt,
    began.argv,
    began.vars,
    began.code_version,
    began.root_run_id,
    began.plan_id,
    began.plan,
    began.host,
    began.pid,
    began.retry_of,
    began.decision,
    began.models_planned,
    began.models_total,
    began.saved_seconds,
    EXISTS (SELECT 1 FROM run_event d WHERE d.root_run_id = began.root_run_id AND d.event = 'discarded') AS is_discarded
FROM run_event began
LEFT JOIN run_event ended
    ON ended.seq = (SELECT max(e.seq) FROM run_event e WHERE e.run_id = began.run_id AND e.event = 'ended' AND e.seq > began.seq)
WHERE began.seq = (SELECT max(e.seq) FROM run_event e WHERE e.run_id = began.run_id AND e.event = 'began');

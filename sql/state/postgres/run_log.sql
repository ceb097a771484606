-- run_log: one row a run, its latest state. RUNNING means that no end was recorded: it runs, or it was killed.
-- The latest row of each run by sorting once: looked up run by run, "seq > began.seq" scans all later rows for each while the
-- table has no statistics yet, 2.7 s for 4,000 runs in place of 0.05.
CREATE VIEW run_log AS
SELECT
    began.run_id,
    began.project_name,
    began.environment,
    began.at                                     AS run_started_at,
    ended.at                                     AS run_ended_at,
    round(extract(epoch FROM ended.at - began.at), 3)::double precision AS run_duration_seconds,
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
    began.root_run_id IN (SELECT d.root_run_id FROM run_event d WHERE d.event = 'discarded') AS is_discarded
FROM (SELECT DISTINCT ON (run_id) * FROM run_event WHERE event = 'began' ORDER BY run_id, seq DESC) began
LEFT JOIN (SELECT DISTINCT ON (run_id) * FROM run_event WHERE event = 'ended' ORDER BY run_id, seq DESC) ended
    ON ended.run_id = began.run_id AND ended.seq > began.seq;
COMMENT ON VIEW run_log IS 'one row a run, its latest state. RUNNING means that no end was recorded: it runs, or it was killed';
COMMENT ON COLUMN run_log.run_id IS 'whose it is';
COMMENT ON COLUMN run_log.project_name IS 'the dbt project';
COMMENT ON COLUMN run_log.environment IS 'the dbt target';
COMMENT ON COLUMN run_log.run_started_at IS 'when it began, UTC';
COMMENT ON COLUMN run_log.run_ended_at IS 'when it ended, UTC; null, no end was recorded';
COMMENT ON COLUMN run_log.run_duration_seconds IS 'from beginning to end';
COMMENT ON COLUMN run_log.run_status IS 'RUNNING, SUCCESS, FAILED, CANCELLED; RUNNING: it runs, or it was killed';
COMMENT ON COLUMN run_log.models_run IS 'models that were run';
COMMENT ON COLUMN run_log.models_failed IS 'models that failed';
COMMENT ON COLUMN run_log.intent IS 'full_refresh, daily, refill, retry';
COMMENT ON COLUMN run_log.attempt IS 'from 1, over all runs of the plan';
COMMENT ON COLUMN run_log.argv IS 'the command, JSON';
COMMENT ON COLUMN run_log.vars IS 'the vars that were asked for, JSON';
COMMENT ON COLUMN run_log.code_version IS 'version of Sluice';
COMMENT ON COLUMN run_log.root_run_id IS 'the run that first began this plan';
COMMENT ON COLUMN run_log.plan_id IS 'the plan';
COMMENT ON COLUMN run_log.plan IS 'the plan record, JSON';
COMMENT ON COLUMN run_log.host IS 'where the owner runs';
COMMENT ON COLUMN run_log.pid IS 'its process there';
COMMENT ON COLUMN run_log.retry_of IS 'the run whose failure is retried; null, it is no retry';
COMMENT ON COLUMN run_log.decision IS 'why the plan is what it is, in words';
COMMENT ON COLUMN run_log.models_planned IS 'models that it is to run';
COMMENT ON COLUMN run_log.models_total IS 'models that a full build would run';
COMMENT ON COLUMN run_log.saved_seconds IS 'measured seconds of the models that did not run again';
COMMENT ON COLUMN run_log.is_discarded IS 'a person gave the plan up';

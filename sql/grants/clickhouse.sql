-- Roles for a state store in ClickHouse (SLUICE_STATE=clickhouse://…/sluice). Run once, after the first run has made it; again after an
-- upgrade, which makes the views anew. Idempotent. By somebody who may create roles, and who then is the one in whose name the views
-- read (SQL SECURITY DEFINER): whoever may read a view needs no right to what is below it.
--
--   sluice_runner     runs batches: reads everything, adds events and claims
--   sluice_optimizer  optimizes and checks: reads everything, writes nothing here
--   sluice_observer   looks: the views alone, without argv and the vars of runs
--   sluice_audit      what dbt's hooks use: adds events and reads the log, nothing else
--
-- clickhouse-client --multiquery <sql/grants/clickhouse.sql      then: GRANT sluice_runner TO somebody;
CREATE ROLE IF NOT EXISTS sluice_runner, sluice_optimizer, sluice_observer, sluice_audit;
REVOKE ALL ON sluice.* FROM sluice_runner, sluice_optimizer, sluice_observer, sluice_audit;

ALTER TABLE sluice.run_log MODIFY SQL SECURITY DEFINER DEFINER = CURRENT_USER;
ALTER TABLE sluice.batch_log MODIFY SQL SECURITY DEFINER DEFINER = CURRENT_USER;
ALTER TABLE sluice.model_log MODIFY SQL SECURITY DEFINER DEFINER = CURRENT_USER;
ALTER TABLE sluice.auto_restart_history MODIFY SQL SECURITY DEFINER DEFINER = CURRENT_USER;

GRANT SELECT ON sluice.* TO sluice_runner, sluice_optimizer;
GRANT INSERT ON sluice.run_event TO sluice_runner;
GRANT INSERT ON sluice.batch_event TO sluice_runner;
GRANT INSERT ON sluice.model_event TO sluice_runner;
GRANT INSERT ON sluice.model_lock TO sluice_runner;

GRANT SELECT ON sluice.batch_log TO sluice_observer;
GRANT SELECT ON sluice.model_log TO sluice_observer;
GRANT SELECT ON sluice.auto_restart_history TO sluice_observer;
GRANT SELECT(run_id, project_name, environment, run_started_at, run_ended_at, run_duration_seconds, run_status, models_run,
             models_failed, intent, attempt, code_version, root_run_id, plan_id, host, pid, retry_of, decision,
             models_planned, models_total, saved_seconds, is_discarded) ON sluice.run_log TO sluice_observer;

GRANT SELECT ON sluice.run_log TO sluice_audit;
GRANT SELECT ON sluice.model_log TO sluice_audit;
GRANT SELECT ON sluice.schema_version TO sluice_audit;
GRANT INSERT ON sluice.run_event TO sluice_audit;
GRANT INSERT ON sluice.model_event TO sluice_audit;

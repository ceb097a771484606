-- Roles for a state store in Postgres (SLUICE_STATE=postgresql://…?schema=sluice). Run once by the owner of the schema,
-- after the first run has made it; again after an upgrade. Idempotent. Nobody but the owner may change or remove an event.
--
--   sluice_runner     runs batches: reads everything, adds events, takes and gives back models
--   sluice_optimizer  optimizes and checks: reads everything, writes nothing here
--   sluice_observer   looks: the views alone, without argv and the vars of runs
--   sluice_audit      what dbt's hooks use: adds events and reads the log, nothing else
--
-- psql "$SLUICE_STATE_OWNER" -v ON_ERROR_STOP=1 -f sql/grants/postgres.sql      then: GRANT sluice_runner TO somebody;
DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['sluice_runner', 'sluice_optimizer', 'sluice_observer', 'sluice_audit'] LOOP
        IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = role_name) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
        END IF;
    END LOOP;
END
$$;
REVOKE ALL ON SCHEMA sluice FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA sluice FROM PUBLIC, sluice_runner, sluice_optimizer, sluice_observer, sluice_audit;
GRANT USAGE ON SCHEMA sluice TO sluice_runner, sluice_optimizer, sluice_observer, sluice_audit;

GRANT SELECT ON ALL TABLES IN SCHEMA sluice TO sluice_runner, sluice_optimizer;
GRANT INSERT ON sluice.run_event, sluice.batch_event, sluice.model_event TO sluice_runner;
GRANT INSERT, DELETE, UPDATE ON sluice.model_lock TO sluice_runner; -- UPDATE: what LOCK TABLE asks for

GRANT SELECT ON sluice.batch_log, sluice.model_log, sluice.auto_restart_history TO sluice_observer;
GRANT SELECT (run_id, project_name, environment, run_started_at, run_ended_at, run_duration_seconds, run_status, models_run,
              models_failed, intent, attempt, code_version, root_run_id, plan_id, host, pid, retry_of, decision,
              models_planned, models_total, saved_seconds, is_discarded) ON sluice.run_log TO sluice_observer;

GRANT SELECT ON sluice.run_log, sluice.model_log, sluice.schema_version TO sluice_audit;
GRANT INSERT ON sluice.run_event, sluice.model_event TO sluice_audit;

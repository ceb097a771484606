-- Roles for the log and the procedures inside Snowflake, after sql/snowflake/auto_restart.sql; again after an upgrade. Run by the
-- owner of the schema with CREATE ROLE. Idempotent. Nobody but the owner may change or remove an event.
--
--   sluice_runner     calls the procedures: reads the log and adds events; it also needs USAGE on your DBT PROJECT and warehouse
--   sluice_audit      what dbt's hooks use (the role in profiles.yml): adds events and reads the log, nothing else
--   sluice_observer   looks: model_log and both histories, without argv and the vars of runs
--   sluice_optimizer  reads the log, writes nothing
CREATE ROLE IF NOT EXISTS sluice_runner;
CREATE ROLE IF NOT EXISTS sluice_optimizer;
CREATE ROLE IF NOT EXISTS sluice_observer;
CREATE ROLE IF NOT EXISTS sluice_audit;

GRANT USAGE ON SCHEMA sluice TO ROLE sluice_runner;
GRANT USAGE ON SCHEMA sluice TO ROLE sluice_optimizer;
GRANT USAGE ON SCHEMA sluice TO ROLE sluice_observer;
GRANT USAGE ON SCHEMA sluice TO ROLE sluice_audit;

GRANT SELECT ON ALL TABLES IN SCHEMA sluice TO ROLE sluice_runner;
GRANT SELECT ON ALL VIEWS IN SCHEMA sluice TO ROLE sluice_runner;
GRANT INSERT ON TABLE sluice.run_event TO ROLE sluice_runner;
GRANT INSERT ON TABLE sluice.model_event TO ROLE sluice_runner;
GRANT USAGE ON PROCEDURE sluice.run_dbt_auto_restart(VARCHAR, FLOAT, NUMBER) TO ROLE sluice_runner;
GRANT USAGE ON PROCEDURE sluice.run_dbt_project(VARCHAR, VARCHAR) TO ROLE sluice_runner;
-- GRANT USAGE ON DBT PROJECT my_db.my_schema.shop TO ROLE sluice_runner;
-- GRANT USAGE ON WAREHOUSE my_warehouse TO ROLE sluice_runner;
-- GRANT EXECUTE TASK ON ACCOUNT TO ROLE sluice_runner;

GRANT SELECT ON ALL TABLES IN SCHEMA sluice TO ROLE sluice_optimizer;
GRANT SELECT ON ALL VIEWS IN SCHEMA sluice TO ROLE sluice_optimizer;

GRANT SELECT ON VIEW sluice.model_log TO ROLE sluice_observer;
GRANT SELECT ON VIEW sluice.auto_restart_history TO ROLE sluice_observer;
GRANT SELECT ON VIEW sluice.v_auto_restart_history TO ROLE sluice_observer;

GRANT INSERT ON TABLE sluice.run_event TO ROLE sluice_audit;
GRANT INSERT ON TABLE sluice.model_event TO ROLE sluice_audit;
GRANT SELECT ON VIEW sluice.run_log TO ROLE sluice_audit;
GRANT SELECT ON VIEW sluice.model_log TO ROLE sluice_audit;
GRANT SELECT ON TABLE sluice.schema_version TO ROLE sluice_audit;

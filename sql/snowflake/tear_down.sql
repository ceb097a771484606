-- Takes away what auto_restart.sql made. Suspend or drop your tasks first. The log of all runs goes along: keep it by leaving
-- out the last three lines of tables and the schema.
DROP PROCEDURE IF EXISTS sluice.run_dbt_auto_restart(VARCHAR, FLOAT, NUMBER);
DROP PROCEDURE IF EXISTS sluice.run_dbt_project(VARCHAR, VARCHAR);
DROP VIEW IF EXISTS sluice.v_auto_restart_history;
DROP VIEW IF EXISTS sluice.auto_restart_history;
DROP VIEW IF EXISTS sluice.run_log;
DROP VIEW IF EXISTS sluice.model_log;
DROP TABLE IF EXISTS sluice.model_event;
DROP TABLE IF EXISTS sluice.run_event;
DROP TABLE IF EXISTS sluice.schema_version;
DROP SCHEMA IF EXISTS sluice RESTRICT;

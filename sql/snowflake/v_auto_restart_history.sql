-- v_auto_restart_history: auto_restart_history with what retries have saved so far, for people; who runs it: anybody who looks.
CREATE OR REPLACE VIEW sluice.v_auto_restart_history
COMMENT = 'the daily runs, full builds and retries, and what the retries saved, each and up to then'
AS
SELECT
    h.*,
    SUM(h.saved_seconds) OVER (PARTITION BY h.project_name ORDER BY h.run_started_at, h.run_id) AS saved_seconds_so_far
FROM sluice.auto_restart_history h;

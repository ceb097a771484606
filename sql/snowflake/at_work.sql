-- at_work: how many statements the session of a run that has no end is carrying out now; none: it was killed.
SELECT COUNT(*) AS statements
FROM TABLE(INFORMATION_SCHEMA.QUERY_HISTORY_BY_SESSION(SESSION_ID => :running_session, RESULT_LIMIT => 100))
WHERE execution_status = 'RUNNING';

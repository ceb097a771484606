-- From schema 1 to 2: retries and their linkage, and where each model is kept. The views are made anew after it.
ALTER TABLE run_event ADD COLUMN vars TEXT;
ALTER TABLE run_event ADD COLUMN retry_of TEXT;
ALTER TABLE run_event ADD COLUMN decision TEXT;
ALTER TABLE run_event ADD COLUMN models_planned INTEGER;
ALTER TABLE run_event ADD COLUMN models_total INTEGER;
ALTER TABLE run_event ADD COLUMN saved_seconds REAL;
CREATE INDEX run_event_retry ON run_event (retry_of);
UPDATE run_event SET vars = coalesce(json_extract(plan, '$.request.vars'), '{}'), models_planned = json_array_length(plan, '$.models')
WHERE event = 'began';
ALTER TABLE model_event ADD COLUMN schema_name TEXT;
ALTER TABLE model_event ADD COLUMN database_name TEXT;
ALTER TABLE model_event ADD COLUMN materialization TEXT;
ALTER TABLE model_event ADD COLUMN is_incremental INTEGER;
ALTER TABLE model_event ADD COLUMN started_at TEXT;
ALTER TABLE model_event ADD COLUMN ended_at TEXT;

-- model_lock: who works on which model now. A row counts only while its owner holds the advisory lock of its run,
-- which the server frees when the owner's connection ends.
CREATE TABLE model_lock (
    project_name     text             NOT NULL,
    environment      text             NOT NULL,
    unique_id        text             NOT NULL,
    run_id           text             NOT NULL,
    host             text             NOT NULL,
    pid              bigint           NOT NULL,
    command          text             NOT NULL,
    began_at         timestamptz(3)   NOT NULL,
    PRIMARY KEY (project_name, environment, unique_id)
);
COMMENT ON TABLE model_lock IS 'who works on which model now. A row counts only while its owner holds the advisory lock of its run, which the server frees when the owner''s connection ends';
COMMENT ON COLUMN model_lock.project_name IS 'the dbt project';
COMMENT ON COLUMN model_lock.environment IS 'the dbt target';
COMMENT ON COLUMN model_lock.unique_id IS 'dbt''s id of the model';
COMMENT ON COLUMN model_lock.run_id IS 'whose it is';
COMMENT ON COLUMN model_lock.host IS 'where the owner runs';
COMMENT ON COLUMN model_lock.pid IS 'its process there';
COMMENT ON COLUMN model_lock.command IS 'its command';
COMMENT ON COLUMN model_lock.began_at IS 'since when';

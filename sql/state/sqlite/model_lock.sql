-- model_lock: who works on which model now. A row counts only while its owner holds the flock of its run,
-- locks/<run_id>.lock beside this file, which the kernel frees when the owner dies, however it dies.
CREATE TABLE model_lock (
    project_name     TEXT     NOT NULL,
    environment      TEXT     NOT NULL,
    unique_id        TEXT     NOT NULL,
    run_id           TEXT     NOT NULL,
    host             TEXT     NOT NULL,
    pid              INTEGER  NOT NULL,
    command          TEXT     NOT NULL,
    began_at         TEXT     NOT NULL,
    PRIMARY KEY (project_name, environment, unique_id)
);

-- sync_event: what happened to each source, append only; written by sync-cursor in the transaction of the rows.
CREATE TABLE IF NOT EXISTS {schema}.sync_event (
    seq              BIGINT       NOT NULL,  -- order of writing, counted for each source
    source           VARCHAR      NOT NULL,
    run_id           VARCHAR      NOT NULL,
    event            VARCHAR      NOT NULL,  -- commit: rows, or a cursor, or both; ended: of a run; reset: by a person
    written_at       TIMESTAMPTZ  NOT NULL,
    stream           VARCHAR,
    state            VARCHAR,                -- the tap's own, JSON; null: as before
    last_sync_ts     TIMESTAMPTZ,            -- the newest bookmark of the stream that the state covers
    last_txid        VARCHAR,                -- and the key of its record
    received_rows    BIGINT       NOT NULL,
    inserted_rows    BIGINT       NOT NULL,
    updated_rows     BIGINT       NOT NULL,
    unchanged_rows   BIGINT       NOT NULL,
    rejected_rows    BIGINT       NOT NULL,
    sync_status      VARCHAR,                -- ended: success, partial, failed
    duration_seconds DOUBLE,
    message          VARCHAR
);

-- sync_event: what happened to each source, append only; written by sync-cursor in the transaction of the rows.
CREATE TABLE IF NOT EXISTS {schema}.sync_event (
    seq              bigint       NOT NULL,  -- order of writing, counted for each source
    source           text         NOT NULL,
    run_id           text         NOT NULL,
    event            text         NOT NULL,  -- commit: rows, or a cursor, or both; ended: of a run; reset: by a person
    written_at       timestamptz  NOT NULL,
    stream           text   ,
    state            text   ,                -- the tap's own, JSON; null: as before
    last_sync_ts     timestamptz,            -- the newest bookmark of the stream that the state covers
    last_txid        text   ,                -- and the key of its record
    received_rows    bigint       NOT NULL,
    inserted_rows    bigint       NOT NULL,
    updated_rows     bigint       NOT NULL,
    unchanged_rows   bigint       NOT NULL,
    rejected_rows    bigint       NOT NULL,
    sync_status      text   ,                -- ended: success, partial, failed
    duration_seconds double precision ,
    message          text   
);

-- schema_version: one row, the version of this schema. lib/sluice/state/store.py knows which one it speaks.
CREATE TABLE schema_version (
    version          bigint           NOT NULL
);
COMMENT ON TABLE schema_version IS 'one row, the version of this schema. lib/sluice/state/store.py knows which one it speaks';
COMMENT ON COLUMN schema_version.version IS 'the version';

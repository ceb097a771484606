-- schema_version: one row, the version of this schema. lib/sluice/state/store.py knows which one it speaks.
CREATE TABLE schema_version (
    version          Int64                  COMMENT 'the version'
) ENGINE = MergeTree
ORDER BY version
COMMENT 'one row, the version of this schema. lib/sluice/state/store.py knows which one it speaks';

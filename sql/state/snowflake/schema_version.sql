-- schema_version: one row, the version of this schema. lib/sluice/state/store.py knows which one it speaks.
CREATE TABLE schema_version (
    version          NUMBER(38, 0) NOT NULL COMMENT 'the version'
)
COMMENT = 'one row, the version of this schema. lib/sluice/state/store.py knows which one it speaks';

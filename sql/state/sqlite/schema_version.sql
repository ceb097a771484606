-- schema_version: one row, the version of this schema. state.py knows which one it speaks.
CREATE TABLE schema_version (version INTEGER NOT NULL);

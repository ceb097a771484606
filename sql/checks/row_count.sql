-- row_count: how many rows there are.
-- Returns   one row: rows
-- Values    $since, $end: days, half-open, where the check has a date_column
-- Names     relation, scope
-- Run by    canary-check, for each `check: row_count` in meta.checks
select count(*) from {relation} where {scope}

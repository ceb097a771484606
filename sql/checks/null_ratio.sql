-- null_ratio: how much of a column is NULL.
-- Returns   one row: rows, rows with a value
-- Values    $since, $end: days, half-open, where the check has a date_column
-- Names     relation, column, scope
-- Run by    canary-check, for each `check: null_ratio` in meta.checks
select count(*), count({column}) from {relation} where {scope}

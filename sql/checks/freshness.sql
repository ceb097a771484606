-- freshness: how new the newest row is. A time without a zone is UTC.
-- Returns   one row: rows, rows with a time, the newest time in seconds since 1970 (in ClickHouse 0 when there is none)
-- Names     relation, date, newest (max of date), where
-- Run by    canary-check, for each `check: freshness` in meta.checks
select count(*), count({date}), {epoch newest} from {relation} where {where}

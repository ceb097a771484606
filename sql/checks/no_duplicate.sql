-- no_duplicate: each key once; NULL in a key equals NULL.
-- Returns   key columns, copies, rows beyond one for each key, all rows; most copies first, at most 5. No row at all: no rows.
-- Values    $since, $end: days, half-open, where the check has a date_column
-- Names     relation, scope, entities (the key, aliased entity_0 …), keys (entity_0, …)
-- Run by    canary-check, for each `check: no_duplicate` in meta.checks
with counted as (
    select {keys}, count(*) as copies
    from (select {entities} from {relation} where {scope}) as scanned
    group by {keys}
)

select {keys}, copies, sum(copies - 1) over () as beyond, sum(copies) over () as all_rows
from counted
order by copies desc, {keys}
limit 5

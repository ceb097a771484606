-- above: rows whose amount is above a limit. For views that say something of each entity, such as bars_state.
-- Returns   violating rows: subject, observed, threshold
-- Values    $limit; by `params:` of the check
-- Names     relation; by `columns:` of the check: subject, amount
-- Run by    canary-check, for each `check: sql` with `file: above` in meta.checks
select {subject} as subject, {amount} as observed, $limit as threshold
from {relation}
where {amount} > $limit

-- never_negative: rows of the scanned days whose amount is below zero. An example of a check of one's own.
-- Returns   violating rows: subject, observed, threshold
-- Values    $since, $end: days, half-open
-- Names     relation; by `columns:` of the check: subject, day, amount
-- Run by    canary-check, for each `check: sql` with `file: never_negative` in meta.checks
select {subject} as subject, {amount} as observed, 0 as threshold
from {relation}
where {day} >= $since and {day} < $end and not coalesce({amount} >= 0, false)

-- ohlc_inconsistent: bars of the scanned days whose open or close lies outside low to high by more than a ratio, or high below low.
-- Returns   violating rows: subject (the id), observed (by what ratio), threshold
-- Values    $since, $end: days, half-open; $max_ratio; by `params:` of the check
-- Names     relation; by `columns:` of the check: subject, day, open, high, low, close
-- Run by    canary-check, for each `check: sql` with `file: ohlc_inconsistent` in meta.checks
select {subject} as subject, worst as observed, $max_ratio as threshold
from (
    select
        bars.*,
        greatest(({open} - {high}) / {high}, ({close} - {high}) / {high}, ({low} - {open}) / {low}, ({low} - {close}) / {low}, ({low} - {high}) / {low}) as worst
    from {relation} as bars
    where {day} >= $since and {day} < $end
) as judged
where not coalesce(worst <= $max_ratio, false)

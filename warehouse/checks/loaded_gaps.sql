-- loaded_gaps: bars that this run has loaded, and before which days are missing.
-- Returns   violating rows: subject (id and day of the bar), observed (days that are missing), threshold
-- Values    $began: when the run began
-- Names     relation: price_bars_1d
-- Run by    canary-check, for meta.checks of price_bars_1d
select concat('id ', id, ' before ', day) as subject, count_missing_days as observed, 0 as threshold
from {relation}
where is_missing_days and loaded_at >= $began
order by id, day

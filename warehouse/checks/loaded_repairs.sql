-- loaded_repairs: bars that this run has loaded, and whose time_high or time_low it had to repair.
-- Returns   violating rows: subject (id and day of the bar, what was repaired); observed and threshold are NULL
-- Values    $began: when the run began
-- Names     relation: price_bars_1d
-- Run by    canary-check, for meta.checks of price_bars_1d
select
    concat(
        'id ', id, ', ', day, ':',
        case when is_repaired_time_high then ' time_high' else '' end,
        case when is_repaired_time_low then ' time_low' else '' end
    ) as subject,
    null as observed,
    null as threshold
from {relation}
where (is_repaired_time_high or is_repaired_time_low) and loaded_at >= $began
order by id, day

-- loaded_rejects: rows of the feed that this run has rejected.
-- Returns   violating rows: subject (id, day and reason); observed and threshold are NULL
-- Values    $began: when the run began
-- Names     relation: price_bar_rejects
-- Run by    canary-check, for meta.checks of price_bar_rejects
select concat('id ', id, ', ', day, ': ', reason) as subject, null as observed, null as threshold
from {relation}
where loaded_at >= $began
order by id, day, reason

-- recompute: a metric on a sample of (entity, day) against the same, computed again from the table that it is made from.
-- Returns   entity columns, day, reason ('' when equal), value, the value computed again, ratio, how many rows have this
--           reason, place among them (at most 5 of each reason). No row at all: nothing was there to sample.
-- Values    $since, $end: days, half-open; $pairs: size of the sample; $tolerance: difference allowed, a ratio
-- Names     relation, date, metric, aggregate, where, entities; the same with source_ for the table it is made from;
--           keys, from_source (the columns of either as s.entity_0 = t.entity_0 …), is_at (= or <=: that day, or up to it)
-- Run by    canary-check --recompute, for each meta.canary that has a recompute. A ratio of days cannot see an error that is the
--           same on all days; this can.
with daily as (
    select {keys}, sluice_day, {aggregate}(sluice_x) as value
    from (
        select {entities}, {day date} as sluice_day, {double metric} as sluice_x
        from {relation}
        where {date} >= $since and {date} < $end and {where}
    ) as scanned
    group by {keys}, sluice_day
),

sampled as (
    select {keys}, sluice_day, value from daily order by {random} limit $pairs
),

source_rows as (
    select {source_entities}, {day source_date} as sluice_day, {double source_metric} as sluice_x
    from {source_relation}
    where {source_since}{source_date} < $end and {source_where}
),

again as (
    select
        {sampled_keys}, s.sluice_day as sluice_day, min(s.value) as value,
        {source_aggregate}(case when t.sluice_day {is_at} s.sluice_day then t.sluice_x end) as expected
    from sampled as s
    left join source_rows as t on {from_source}
    group by {grouped_keys}, s.sluice_day
),

judged as (
    select
        {keys}, sluice_day, value, expected,
        case
            when value is null or expected is null then 'NULL'
            when {is_nan value} or {is_nan expected} then 'NaN'
            when {is_infinite value} or {is_infinite expected} then 'infinity'
            when not coalesce(abs(value - expected) <= $tolerance * greatest(abs(value), abs(expected)), false) then 'difference'
            else ''
        end as reason,
        case when expected <> 0 and not {is_nan expected} then value / expected end as ratio
    from again
),

ranked as (
    select
        {keys}, sluice_day, reason, value, expected, ratio,
        count(*) over (partition by reason) as of_reason,
        row_number() over (
            partition by reason
            order by case when ratio > 1 then ratio when ratio > 0 then 1 / ratio else 0 end desc, sluice_day, {keys}
        ) as place
    from judged
)

select {keys}, sluice_day, reason, value, expected, ratio, of_reason, place
from ranked
where place <= 5
order by place, reason

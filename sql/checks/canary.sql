-- canary: a metric per entity and day, each day against the day before; what cannot be compared is a violation, too.
-- Returns   entity columns, day, reason ('' when good), value, the value of the day before, ratio, how many rows have this
--           reason, place among them (worst first; at most 5 of each reason). No row at all: nothing was there to scan.
-- Values    $since, $end: days, half-open; $last: the last day that must be there; $min_ratio, $max_ratio
-- Names     relation, date, metric, aggregate, where, entities (aliased entity_0 …), keys (entity_0, …)
-- Run by    canary-check, for each meta.canary. Only what is proved good is good: every comparison with NaN is false.
with scanned as (
    select {entities}, {day date} as sluice_day, {double metric} as sluice_x
    from {relation}
    where ({date} is null or ({date} >= $since and {date} < $end)) and {where}
),

daily as (
    select
        {keys}, sluice_day, {aggregate}(sluice_x) as value,
        count(*) - count(sluice_x) as null_rows,
        sum(case when {is_nan sluice_x} then 1 else 0 end) as nan_rows,
        sum(case when {is_infinite sluice_x} then 1 else 0 end) as infinite_rows
    from scanned
    group by {keys}, sluice_day
),

weighed as (
    select
        {keys}, sluice_day, value,
        case
            when sluice_day is null then 'no day'
            when null_rows > 0 or value is null then 'NULL'
            when nan_rows > 0 or {is_nan value} then 'NaN'
            when infinite_rows > 0 or {is_infinite value} then 'infinity'
            when value = 0 then 'zero'
            when value < 0 then 'negative'
            when value > 0 then ''
            else 'no number'
        end as defect
    from daily
),

-- A frame of one row instead of lag(): ClickHouse fills what is not there with 0 or 1970-01-01, hence `place`.
paired as (
    select
        {keys}, sluice_day, value, defect,
        row_number() over (partition by {keys} order by sluice_day) as place,
        count(*) over (partition by {keys}) as days,
        max(sluice_day) over (partition by {keys}) as last_day,
        max(sluice_day) over (partition by {keys} order by sluice_day rows between 1 preceding and 1 preceding) as day_before,
        max(value) over (partition by {keys} order by sluice_day rows between 1 preceding and 1 preceding) as value_before,
        max(defect) over (partition by {keys} order by sluice_day rows between 1 preceding and 1 preceding) as defect_before
    from weighed
),

compared as (
    select
        {keys}, sluice_day, value, value_before, defect, place, days, last_day, day_before,
        place > 1 and defect = '' and defect_before = '' as is_comparable,
        case when place > 1 and defect = '' and defect_before = '' then value / value_before end as ratio
    from paired
),

judged as (
    select
        {keys}, sluice_day, value, value_before, ratio,
        case
            when defect <> '' then defect
            when place > 1 and sluice_day - day_before <> 1 then 'missing day'
            when sluice_day = last_day and sluice_day < $last then 'missing day'
            when place = 1 and (sluice_day <> $since or days = 1) then 'no baseline'
            when is_comparable and not coalesce(ratio >= $min_ratio and ratio <= $max_ratio, false) then 'jump'
            else ''
        end as reason
    from compared
),

ranked as (
    select
        {keys}, sluice_day, reason, value, value_before, ratio,
        count(*) over (partition by reason) as of_reason,
        row_number() over (
            partition by reason
            order by case when ratio > 1 then ratio when ratio > 0 then 1 / ratio else 0 end desc, sluice_day, {keys}
        ) as place
    from judged
)

select {keys}, sluice_day, reason, value, value_before, ratio, of_reason, place
from ranked
where place <= 5
order by place, reason

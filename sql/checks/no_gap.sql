-- no_gap: a row for each entity on each day.
-- Returns   entity columns, day, reason ('' when good), days since the row before, the days allowed, ratio (NULL), how many rows
--           have this reason, place among them (at most 5 of each reason). No row at all: nothing was there to scan.
-- Values    $since, $end: days, half-open; $last: the last day that must be there
-- Names     relation, date, where, entities (aliased entity_0 …), keys (entity_0, …)
-- Run by    canary-check, for each `check: no_gap` in meta.checks
with daily as (
    select {keys}, sluice_day
    from (
        select {entities}, {day date} as sluice_day
        from {relation}
        where ({date} is null or ({date} >= $since and {date} < $end)) and {where}
    ) as scanned
    group by {keys}, sluice_day
),

-- ClickHouse has 1970-01-01 for the day before the first, hence `place`.
paired as (
    select
        {keys}, sluice_day,
        row_number() over (partition by {keys} order by sluice_day) as place,
        max(sluice_day) over (partition by {keys}) as last_day,
        max(sluice_day) over (partition by {keys} order by sluice_day rows between 1 preceding and 1 preceding) as day_before
    from daily
),

judged as (
    select
        {keys}, sluice_day, case when place > 1 then sluice_day - day_before end as days,
        case
            when sluice_day is null then 'no day'
            when place > 1 and sluice_day - day_before <> 1 then 'missing day'
            when sluice_day = last_day and sluice_day < $last then 'missing day'
            when place = 1 and sluice_day <> $since then 'no baseline'
            else ''
        end as reason
    from paired
),

ranked as (
    select
        {keys}, sluice_day, reason, days,
        count(*) over (partition by reason) as of_reason,
        row_number() over (partition by reason order by coalesce(days, 0) desc, sluice_day, {keys}) as place
    from judged
)

select {keys}, sluice_day, reason, days, 1 as allowed, null as ratio, of_reason, place
from ranked
where place <= 5
order by place, reason

{{ config(materialized='view') }}

-- A view of the rows themselves: it commits with them, and can never say anything else than they do.
with loads as (
    select id, max(loaded_at) as last_run_ts
    from {{ ref('price_bars_1d') }}
    group by id
),

rejected as (
    select
        loads.id,
        sum(case when rejects.loaded_at >= loads.last_run_ts then 1 else 0 end) as last_rejected,
        count(*) as count_rejects
    from loads
    inner join {{ ref('price_bar_rejects') }} as rejects on loads.id = rejects.id
    group by loads.id
),

delivered as (
    select id, count(*) as count_source
    from {{ source('raw', 'price_histories') }}
    group by id
)

select
    bars.id,
    max(bars.time_close) as last_src_ts,
    min(bars.day) as daily_min_seen,
    max(bars.loaded_at) as last_run_ts,
    sum(case when bars.loaded_at = loads.last_run_ts then 1 else 0 end) as last_upserted,
    sum(case when bars.loaded_at = loads.last_run_ts and bars.is_repaired_time_high then 1 else 0 end) as last_repaired_timehigh,
    sum(case when bars.loaded_at = loads.last_run_ts and bars.is_repaired_time_low then 1 else 0 end) as last_repaired_timelow,
    coalesce(max(rejected.last_rejected), 0) as last_rejected,
    count(*) as count_bars,
    coalesce(max(rejected.count_rejects), 0) as count_rejects,
    coalesce(max(delivered.count_source), 0) as count_source,
    -- Rows of the source that made neither a bar nor a reject; below zero where the source corrected what was rejected.
    coalesce(max(delivered.count_source), 0) - count(*) - coalesce(max(rejected.count_rejects), 0) as count_unaccounted,
    {{ dbt.datediff('max(bars.time_close)', "(current_timestamp at time zone 'UTC')", 'hour') }} as age_hours
from {{ ref('price_bars_1d') }} as bars
inner join loads on bars.id = loads.id
left join rejected on bars.id = rejected.id
left join delivered on bars.id = delivered.id
group by bars.id

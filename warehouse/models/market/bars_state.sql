{{ config(materialized='view') }}

-- A view of the rows themselves: it commits with them, and can never say anything else than they do.
with loads as (
    select id, max(loaded_at) as last_run_ts
    from {{ ref('price_bars_1d') }}
    group by id
),

rejected as (
    select loads.id, count(*) as last_rejected
    from loads
    inner join {{ ref('price_bar_rejects') }} as rejects on loads.id = rejects.id and rejects.loaded_at >= loads.last_run_ts
    group by loads.id
)

select
    bars.id,
    max(bars.time_close) as last_src_ts,
    min(bars.day) as daily_min_seen,
    max(bars.loaded_at) as last_run_ts,
    sum(case when bars.loaded_at = loads.last_run_ts then 1 else 0 end) as last_upserted,
    sum(case when bars.loaded_at = loads.last_run_ts and bars.is_repaired_time_high then 1 else 0 end) as last_repaired_timehigh,
    sum(case when bars.loaded_at = loads.last_run_ts and bars.is_repaired_time_low then 1 else 0 end) as last_repaired_timelow,
    coalesce(max(rejected.last_rejected), 0) as last_rejected
from {{ ref('price_bars_1d') }} as bars
inner join loads on bars.id = loads.id
left join rejected on bars.id = rejected.id
group by bars.id

{{ config(materialized='incremental', incremental_strategy='rest_of_series', unique_key=['id', 'bar_seq']) }}

{%- set is_partial = is_incremental() and not var('full_rebuild', false) %}
{%- set values = 'id, bar_seq, day, time_open, time_close, time_high, time_low, open, high, low, close, volume, market_cap, '
    ~ 'is_missing_days, count_missing_days, is_repaired_time_high, is_repaired_time_low' %}

with
{%- if is_partial %}

known as (
    select id, min(day) as first_day, max(day) as last_day
    from {{ this }}
    group by id
),

backfilled as (
    {{ backfilled_ids(this) }}
),

-- The bar to go on from: the last one before the days that are looked at again. It is loaded again, too, so that
-- what reads this table also learns of bars behind it that are no more.
kept as (
    select bars.id, max(bars.bar_seq) as bar_seq, max(bars.day) as day
    from {{ this }} as bars
    inner join known on bars.id = known.id
    where
        bars.day <= {{ sluice.add_days('known.last_day', '-' ~ sluice.whole_number(var('bars_lookback_days', 7), 'bars_lookback_days')) }}
        and bars.id not in (select id from backfilled)
    group by bars.id
),
{%- endif %}

judged as (
    {%- if is_partial %}
    {{ judged_prices('not exists (select 1 from kept where kept.id = prices.id and cast(prices.ts as date) <= kept.day)') }}
    {%- else %}
    {{ judged_prices() }}
    {%- endif %}
),

numbered as (
    select
        judged.*,
        cast({{ 'coalesce(kept.bar_seq, 0) + ' if is_partial }}row_number() over series as integer) as bar_seq,
        cast(coalesce(judged.day - coalesce(lag(judged.day) over series{{ ', kept.day' if is_partial }}) - 1, 0) as integer) as count_missing_days,
        time_high is null or cast(time_high as date) <> judged.day as is_repaired_time_high,
        time_low is null or cast(time_low as date) <> judged.day as is_repaired_time_low
    from judged
    {%- if is_partial %}
    left join kept on judged.id = kept.id
    {%- endif %}
    where reason is null
    window series as (partition by judged.id order by judged.day)
),

fresh as (
    select
        id,
        bar_seq,
        day,
        cast(day as timestamp) as time_open,
        ts as time_close,
        -- The end of the day that is nearer.
        case when not is_repaired_time_high then time_high when time_high < day then cast(day as timestamp) else ts end as time_high,
        case when not is_repaired_time_low then time_low when time_low < day then cast(day as timestamp) else ts end as time_low,
        open,
        high,
        low,
        close,
        volume,
        market_cap,
        count_missing_days > 0 as is_missing_days,
        count_missing_days,
        is_repaired_time_high,
        is_repaired_time_low
    from numbered
)
{%- if is_partial %},

stored as (
    select {{ values }}
    from {{ this }} as bars
    where
        {{ ids_filter('bars.id') }}
        and not exists (select 1 from kept where kept.id = bars.id and bars.bar_seq <= kept.bar_seq)
        {%- if sluice.end_date() is not none %}
        and bars.day < {{ sluice.date_literal(sluice.end_date()) }}
        {%- endif %}
),

changed as (
    select id from (select * from fresh except select * from stored) as came
    union
    select id from (select * from stored except select * from fresh) as went
),

written as (
    select * from fresh
    where id in (select id from changed)

    union all

    select {{ values }}
    from {{ this }} as bars
    where
        id in (select id from changed)
        and exists (select 1 from kept where kept.id = bars.id and kept.bar_seq = bars.bar_seq)
)
{%- endif %}

select
    {{ values }},
    '1D' as tf,
    1 as count_days,
    false as is_partial_start,
    false as is_partial_end,
    {{ load_time() }} as loaded_at
from {{ 'written' if is_partial else 'fresh' }}

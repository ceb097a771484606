{#-
  Returns the query of a model of bars: one row per id, timeframe and period, the last of a series perhaps unfinished.

  kind, scheme  of period_days; not cal_anchor, see price_bars_anchored
-#}
{% macro price_bars(kind, scheme='iso') -%}
with changed as (
    {{ changed_series(ref('price_bars_1d'), ['id']) }}
),

periods as (
    {{ period_days(kind, scheme) }}
),

kept as (
    {{ kept_bars() }}
),

weighed as (
    select
        periods.*,
        min(day) over period as first_day,
        max(day) over period as last_day,
        max(high) over period as period_high,
        min(low) over period as period_low
    from periods
    window period as (partition by id, tf, period_no)
),

bars as (
    select
        id,
        tf,
        period_no,
        {% if kind == 'multi_tf' -%}
        min(first_day) as period_start,
        {%- else -%}
        min(period_start) as period_start,
        min(period_end) as period_end,
        {%- endif %}
        min(size) as size,
        min(first_day) as first_day,
        max(last_day) as last_day,
        min(time_open) as time_open,
        max(time_close) as time_close,
        min(case when high = period_high then time_high end) as time_high,
        min(case when low = period_low then time_low end) as time_low,
        max(case when day = first_day then open end) as open,
        max(high) as high,
        min(low) as low,
        max(case when day = last_day then close end) as close,
        sum(volume) as volume,
        max(case when day = last_day then market_cap end) as market_cap,
        cast(count(*) as integer) as count_days,
        bool_or(is_repaired_time_high and high = period_high) as is_repaired_time_high,
        bool_or(is_repaired_time_low and low = period_low) as is_repaired_time_low,
        max(loaded_at) as loaded_at
    from weighed
    group by id, tf, period_no
),

placed as (
    select
        bars.*,
        cast(coalesce(kept.bar_seq, 0) + row_number() over series as integer) as bar_seq,
        {% if kind == 'multi_tf' -%}
        count_days < size as is_partial_end,
        cast(last_day - first_day + 1 - count_days as integer) as count_missing_days
        {%- else -%}
        last_day < period_end and lead(last_day) over series is null as is_partial_end,
        -- Up to the period's end where it is over.
        cast(case when lead(last_day) over series is null then last_day else period_end end - period_start + 1 - count_days as integer) as count_missing_days
        {%- endif %}
    from bars
    left join kept on bars.id = kept.id and bars.tf = kept.tf
    window series as (partition by bars.id, bars.tf order by period_no)
)

select
    id,
    tf,
    bar_seq,
    period_no,
    period_start,
    time_open,
    time_close,
    time_high,
    time_low,
    open,
    high,
    low,
    close,
    volume,
    market_cap,
    count_days,
    false as is_partial_start,
    is_partial_end,
    count_missing_days > 0 as is_missing_days,
    count_missing_days,
    is_repaired_time_high,
    is_repaired_time_low,
    loaded_at
from placed
{%- endmacro %}

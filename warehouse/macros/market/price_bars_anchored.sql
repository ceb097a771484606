{#-
  Returns the query of a model of anchored bars: a row for each day, the bar as it stood when that day had closed. The last
  row of a period is the finished bar; the others, and all of a period that is not over, are snapshots (is_partial_end).

  scheme  iso or us
-#}
{% macro price_bars_anchored(scheme) -%}
with changed as (
    {{ changed_series(ref('price_bars_1d'), ['id']) }}
),

periods as (
    {{ period_days('cal_anchor', scheme) }}
),

kept as (
    {{ kept_bars() }}
),

grown as (
    select
        periods.*,
        first_value(open) over grown as bar_open,
        max(high) over grown as bar_high,
        min(low) over grown as bar_low,
        sum(volume) over grown as bar_volume,
        cast(row_number() over grown as integer) as count_days,
        high > coalesce(max(high) over before, 0) as is_new_high,
        low < coalesce(min(low) over before, low + 1) as is_new_low,
        lead(day) over grown is null as is_last_of_period,
        first_value(time_open) over grown as bar_time_open,
        max(period_no) over (partition by periods.id, periods.tf) as last_period_no
    from periods
    window
        grown as (partition by id, tf, period_no order by day),
        before as (partition by id, tf, period_no order by day rows between unbounded preceding and 1 preceding)
),

-- A new high comes on a later day than the one before, so the latest of their times is the high's.
timed as (
    select
        grown.*,
        max(case when is_new_high then time_high end) over so_far as bar_time_high,
        max(case when is_new_low then time_low end) over so_far as bar_time_low,
        max(case when is_new_high then {{ sluice.add_days('day', 0) }} end) over so_far as high_day,
        max(case when is_new_low then {{ sluice.add_days('day', 0) }} end) over so_far as low_day,
        dense_rank() over (partition by id, tf order by period_no) as place
    from grown
    window so_far as (partition by id, tf, period_no order by day)
)

select
    timed.id,
    timed.tf,
    cast(coalesce(kept.bar_seq, 0) + place as integer) as bar_seq,
    period_no,
    period_start,
    day,
    bar_time_open as time_open,
    time_close,
    bar_time_high as time_high,
    bar_time_low as time_low,
    bar_open as open,
    bar_high as high,
    bar_low as low,
    close,
    bar_volume as volume,
    market_cap,
    count_days,
    series_start > period_start as is_partial_start,
    not is_last_of_period or (period_no = last_period_no and day < period_end) as is_partial_end,
    count_missing_days > 0 as is_missing_days,
    count_missing_days,
    is_repaired_time_high,
    is_repaired_time_low,
    loaded_at
from (
    select
        timed.*,
        -- Up to the period's end where it is over.
        cast(
            case when is_last_of_period and period_no < last_period_no then period_end else day end
            - greatest(period_start, series_start) + 1 - count_days as integer
        ) as count_missing_days
    from timed
) as timed
left join kept on timed.id = kept.id and timed.tf = kept.tf
{%- endmacro %}

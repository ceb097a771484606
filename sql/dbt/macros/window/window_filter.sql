{#-
  Returns a condition: the column lies in the days that this run writes. With months those, or the days of them; without,
  when incremental, the last loaded day less the lookback and all after it; else every day. Up to
  var incremental_end_date, inclusive, where that is set.

  column         SQL expression of a date or timestamp (UTC)
  target_column  date column of the model's own table
  lookback_days  days; see lookback
  lookback_var   see lookback
-#}
{% macro window_filter(column, target_column='day', lookback_days=none, lookback_var='price_lookback_days') -%}
    {%- set window = sluice.month_window() -%}
    {%- if window is not none -%}
        {{ return(sluice.month_filter(column, window)) }}
    {%- endif -%}
    {%- set conditions, end = [], sluice.end_date() -%}
    {%- if is_incremental() -%}
        {%- do conditions.append(column ~ ' >= ' ~ sluice.window_start(target_column, lookback_days, lookback_var)) -%}
    {%- endif -%}
    {%- if end is not none -%}
        {%- do conditions.append(column ~ ' < ' ~ sluice.date_literal(end)) -%}
    {%- endif -%}
    {{ return(conditions | join(' and ') or 'true') }}
{%- endmacro %}

{#-
  Returns the first day that an incremental run writes: the first of start_month, or start_date, or
  without a window the last loaded day less the lookback.

  target_column  date column of the model's own table
  lookback_days  days; see lookback
  lookback_var   see lookback
-#}
{% macro window_start(target_column='day', lookback_days=none, lookback_var='price_lookback_days') -%}
    {%- set window = sluice.month_window() -%}
    {%- if window is not none -%}
        {{ return(sluice.date_literal(window.start)) }}
    {%- endif -%}
    {{ return(adapter.dispatch('days_back', 'sluice')(target_column, sluice.lookback(lookback_days, lookback_var))) }}
{%- endmacro %}

{% macro default__days_back(column, days) -%}
    {#- max() of an empty table is NULL, and no day is after NULL: nothing would ever load. -#}
    {%- set last_day = 'coalesce(max(' ~ column ~ '), ' ~ sluice.date_literal('1970-01-01') ~ ')' -%}
    {{ return('(select ' ~ sluice.add_days(last_day, -days) ~ ' from ' ~ this ~ ')') }}
{%- endmacro %}

{#-
  Asked beforehand: a DELETE works out its subqueries once per part, while the table shrinks under it.
  The first day that there is stands for an empty table; the days before it would wrap around to 2149.
-#}
{% macro clickhouse__days_back(column, days) -%}
    {%- set epoch = modules.datetime.date(1970, 1, 1) -%}
    {%- set last_day = run_query('select max(' ~ column ~ ') from ' ~ this).columns[0].values()[0] if execute else epoch -%}
    {{ return(sluice.date_literal([last_day - modules.datetime.timedelta(days=days), epoch] | max)) }}
{%- endmacro %}

{#-
  Returns the clause `where …`, or `and …`: the source's rows that this run reads; see window_filter.

  source_column  SQL expression of a date or timestamp (UTC) of the source
  target_column  date column of the model's own table
  add_and        true where a WHERE stands already
  lookback_days  days; see lookback
  lookback_var   name of the var that widens the lookback: dbt run --vars '{price_lookback_days: 12}'
-#}
{% macro apply_monthly_incremental_filter(
    source_column, target_column='day', add_and=false, lookback_days=none, lookback_var='price_lookback_days'
) -%}
    {{ return(adapter.dispatch('apply_monthly_incremental_filter', 'sluice')(
        source_column, target_column, add_and, lookback_days, lookback_var
    )) }}
{%- endmacro %}

{% macro default__apply_monthly_incremental_filter(source_column, target_column, add_and, lookback_days, lookback_var) -%}
    {%- set condition = sluice.window_filter(source_column, target_column, lookback_days, lookback_var) -%}
    {{ return(('and ' if add_and else 'where ') ~ condition) }}
{%- endmacro %}

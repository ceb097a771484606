{#-
  Returns a query of one column `number`: 0, 1, … size - 1.

  size  how many rows
-#}
{% macro number_series(size) -%}
    {{ return(adapter.dispatch('number_series', 'sluice')(size)) }}
{%- endmacro %}

{% macro default__number_series(size) -%}
    select number from generate_series(0, {{ size - 1 }}) as series(number)
{%- endmacro %}

{% macro clickhouse__number_series(size) -%}
    select toInt64(number) as number from numbers({{ size }})
{%- endmacro %}

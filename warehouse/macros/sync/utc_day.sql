{#-
  Returns the day, in UTC, of a moment.

  moment  SQL expression of a timestamp with time zone
-#}
{% macro utc_day(moment) -%}
    {%- if target.type == 'clickhouse' -%}
        toDate({{ moment }})
    {%- else -%}
        cast({{ moment }} at time zone 'UTC' as date)
    {%- endif -%}
{%- endmacro %}

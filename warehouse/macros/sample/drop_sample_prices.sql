{#-
  Takes a day's prices away, as if their source had skipped it. Returns nothing; `dbt run-operation` runs it.
  make_sample_data with rewrite_from brings them back.

  day  text like '2026-04-17'
-#}
{% macro drop_sample_prices(day) -%}
    {%- do sluice.run_together(['delete from ' ~ source('raw', 'prices') ~ ' where day = ' ~ sluice.date_literal(day)]) -%}
{%- endmacro %}

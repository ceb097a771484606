{#-
  Returns a query of one column `day`: every day of the sample.

  end  its last day, text
-#}
{% macro sample_days(end) -%}
    {%- set start = modules.datetime.date.fromisoformat(sample_start()) -%}
    {%- set size = (modules.datetime.date.fromisoformat(end) - start).days + 1 -%}
    select {{ sluice.add_days(sluice.date_literal(start), 'number') }} as day
    from ({{ sluice.number_series(size) }}) as numbers
{%- endmacro %}

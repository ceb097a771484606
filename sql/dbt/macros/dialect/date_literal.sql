{#-
  Returns an SQL date.

  date  a date, or text like '2024-01-31'
-#}
{% macro date_literal(date) -%}
    {{ return('cast(' ~ sluice.quoted(date) ~ ' as date)') }}
{%- endmacro %}

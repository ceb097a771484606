{#-
  Returns the date that lies a number of days after another.

  date  SQL expression of a date
  days  whole days, a number or an SQL expression; negative goes back
-#}
{% macro add_days(date, days) -%}
    cast({{ dbt.dateadd('day', days, date) | trim }} as date)
{%- endmacro %}

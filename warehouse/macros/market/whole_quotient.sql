{#-
  Returns a / b without its fraction, as an integer: `/` is a float's on DuckDB and an integer's on Postgres.

  a, b  SQL expressions of whole numbers, a not negative
-#}
{% macro whole_quotient(a, b) -%}
    cast((({{ a }}) - ({{ a }}) % {{ b }}) / {{ b }} as integer)
{%- endmacro %}

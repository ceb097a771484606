{#-
  Returns an SQL date.

  date  a date, or text like '2024-01-31'
-#}
{% macro date_literal(date) -%}
    {%- if not modules.re.fullmatch('[0-9]{4}-[0-9]{2}-[0-9]{2}', date | string) -%}
        {{ exceptions.raise_compiler_error("not a date: " ~ date ~ "; it must be like '2024-01-31'") }}
    {%- endif -%}
    {{ return("cast('" ~ date ~ "' as date)") }}
{%- endmacro %}

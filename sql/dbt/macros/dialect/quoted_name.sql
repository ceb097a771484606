{#-
  Returns the name of a database, table or column as a quoted SQL identifier.

  name  text, without quotes
-#}
{% macro quoted_name(name) -%}
    {{ return(adapter.dispatch('quoted_name', 'sluice')(name | string)) }}
{%- endmacro %}

{% macro default__quoted_name(name) -%}
    {{ return('"' ~ name | replace('"', '""') ~ '"') }}
{%- endmacro %}

{% macro clickhouse__quoted_name(name) -%}
    {{ return('`' ~ name | replace('\\', '\\\\') | replace('`', '\\`') ~ '`') }}
{%- endmacro %}

{#- In capitals, as Snowflake keeps a name that is written without quotes. -#}
{% macro snowflake__quoted_name(name) -%}
    {{ return('"' ~ name | upper | replace('"', '""') ~ '"') }}
{%- endmacro %}

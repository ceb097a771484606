{#-
  Returns a value as an SQL string literal; whatever is in it stays inside it.

  value  anything; it is written as text
-#}
{% macro quoted(value) -%}
    {{ return(adapter.dispatch('quoted', 'sluice')(value | string)) }}
{%- endmacro %}

{% macro default__quoted(value) -%}
    {{ return("'" ~ value | replace("'", "''") ~ "'") }}
{%- endmacro %}

{#- A backslash escapes here: a value that ends in one would take the closing quote along. -#}
{% macro clickhouse__quoted(value) -%}
    {{ return("'" ~ value | replace('\\', '\\\\') | replace("'", "\\'") ~ "'") }}
{%- endmacro %}

{% macro snowflake__quoted(value) -%}
    {{ return(sluice.clickhouse__quoted(value)) }}
{%- endmacro %}

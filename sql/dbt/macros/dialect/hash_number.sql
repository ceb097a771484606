{#-
  Returns a number of 60 bits made from a text: the first 15 hexadecimal digits of its MD5.
  The same on every engine and in every version, which a database's own hash() is not.

  text  SQL expression of a text
-#}
{% macro hash_number(text) -%}
    {{ return(adapter.dispatch('hash_number', 'sluice')(text)) }}
{%- endmacro %}

{% macro duckdb__hash_number(text) -%}
    cast('0x' || substr(md5({{ text }}), 1, 15) as bigint)
{%- endmacro %}

{% macro postgres__hash_number(text) -%}
    cast(cast('x' || substr(md5({{ text }}), 1, 15) as bit(60)) as bigint)
{%- endmacro %}

{% macro clickhouse__hash_number(text) -%}
    toInt64(bitShiftRight(byteSwap(reinterpretAsUInt64(substring(MD5({{ text }}), 1, 8))), 4))
{%- endmacro %}

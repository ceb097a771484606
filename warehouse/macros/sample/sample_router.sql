{#- Returns the address that forwards what it receives in the same second. -#}
{% macro sample_router() -%}
    {{ return('0x' ~ '0' * 36 ~ 'f0f0') }}
{%- endmacro %}

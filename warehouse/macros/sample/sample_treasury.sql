{#- Returns the address that holds more of every token than all others together. -#}
{% macro sample_treasury() -%}
    {{ return('0x' ~ '0' * 36 ~ 'feed') }}
{%- endmacro %}

{#- Returns the first day of the sample data. -#}
{% macro sample_start() -%}
    {{ return('2021-01-01') }}
{%- endmacro %}

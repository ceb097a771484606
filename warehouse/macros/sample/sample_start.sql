{#- Returns the first day of the sample data: the var sample_start, which a measurement sets, else years ago. -#}
{% macro sample_start() -%}
    {{ return(var('sample_start', '2021-01-01') | string) }}
{%- endmacro %}

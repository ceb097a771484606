{#- Returns the last day that is there, as text; the day before the sample's first when there is none. -#}
{% macro sample_last_day() -%}
    {%- set day = run_query('select max(day) from ' ~ source('raw', 'blocks_daily')).columns[0].values()[0] -%}
    {{ return(day_before(sample_start()) if day is none else day | string) }}
{%- endmacro %}

{#- Returns the first day of raw.price_histories: in the middle of a week, a month and a year. -#}
{% macro price_histories_start() -%}
    {{ return('2018-11-21') }}
{%- endmacro %}

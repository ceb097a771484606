{#-
  Returns a number as decimal(18, places), rounded half away from zero.

  number  SQL expression
  places  after the point
-#}
{% macro decimal_places(number, places) -%}
    {{ return(adapter.dispatch('decimal_places', 'sluice')(number, places)) }}
{%- endmacro %}

{% macro default__decimal_places(number, places) -%}
    {{ return('cast(' ~ number ~ ' as decimal(18, ' ~ places ~ '))') }}
{%- endmacro %}

{#- Its cast cuts off. -#}
{% macro clickhouse__decimal_places(number, places) -%}
    {{ return('cast(round(' ~ number ~ ', ' ~ places ~ ') as decimal(18, ' ~ places ~ '))') }}
{%- endmacro %}

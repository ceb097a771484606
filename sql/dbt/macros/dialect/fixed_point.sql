{#-
  Returns units * 10^-decimals as decimal(18, 4), without passing through floating point.

  units     SQL expression of a whole number
  decimals  places after the point that the units stand for
-#}
{% macro fixed_point(units, decimals) -%}
    {{ return(adapter.dispatch('fixed_point', 'sluice')(units, decimals)) }}
{%- endmacro %}

{% macro default__fixed_point(units, decimals) -%}
    cast({{ units }} * 0.{{ '0' * (decimals - 1) }}1 as decimal(18, 4))
{%- endmacro %}

{#- 0.0001 is a float here. -#}
{% macro clickhouse__fixed_point(units, decimals) -%}
    {{ sluice.decimal_places('toDecimal128(' ~ units ~ ', ' ~ decimals ~ ') / 1' ~ '0' * decimals, 4) }}
{%- endmacro %}

{#- Returns the periods of the EMAs; the longest says how many values a series needs before it can be gone on with. -#}
{% macro ema_periods() -%}
    {{ return([9, 10, 12, 20, 21, 26, 50, 100, 200]) }}
{%- endmacro %}

{#-
  Returns 1 - α, what a step leaves of the average before it; α = 2 / (period × days + 1).

  period  in steps
  days    SQL expression: how many steps a unit of the period has
-#}
{% macro ema_remainder(period, days='1') -%}
    (1 - cast(2 as double precision) / ({{ period }} * {{ days }} + 1))
{%- endmacro %}

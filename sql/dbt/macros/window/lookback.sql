{#-
  Returns how many days before the last loaded one a run without a window reads again.

  days      default: var lookback_days, else 2
  var_name  the var that widens it, for one run and without an edit
-#}
{% macro lookback(days=none, var_name='price_lookback_days') -%}
    {%- set widened = sluice.whole_number(none, var_name) -%}
    {%- if widened is not none -%}
        {{ return(widened) }}
    {%- endif -%}
    {%- set usual = sluice.whole_number(days, 'lookback_days') -%}
    {{ return(2 if usual is none else usual) }}
{%- endmacro %}

{#-
  Returns the timeframes of a kind of bars as (name, unit, size): `size` units make a bar. The unit of multi_tf is a daily bar,
  whatever the days between; of cal and cal_anchor 0 is a week, another number that many months.

  kind  multi_tf, cal or cal_anchor
-#}
{% macro timeframes(kind) -%}
    {%- set counted = [('7D', 1, 7), ('14D', 1, 14), ('30D', 1, 30), ('90D', 1, 90), ('180D', 1, 180), ('365D', 1, 365)] -%}
    {%- set aligned = [('1W', 0, 1), ('2W', 0, 2), ('1M', 1, 1), ('2M', 1, 2), ('3M', 1, 3), ('6M', 1, 6), ('1Y', 12, 1)] -%}
    {{ return(counted if kind == 'multi_tf' else aligned) }}
{%- endmacro %}

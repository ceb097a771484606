{#-
  Returns the window of the batch as {start, end}: text dates, half-open, so end is the first day
  of the month after end_month. None when the batch has no window.

  vars  start_month, end_month: first day of the first and of the last month, both inclusive
-#}
{% macro month_window() -%}
    {%- set start = sluice.month_var('start_month') -%}
    {%- set last = sluice.month_var('end_month') -%}
    {%- if start is none and last is none -%}
        {{ return(none) }}
    {%- endif -%}
    {%- if start is none or last is none or start > last -%}
        {{ exceptions.raise_compiler_error(
            "start_month " ~ start ~ " and end_month " ~ last ~ " are not a window: give both, in order"
        ) }}
    {%- endif -%}
    {%- set year, month = last[:4] | int, last[5:7] | int -%}
    {%- set end = modules.datetime.date(year + month // 12, month % 12 + 1, 1) -%}
    {{ return({'start': start, 'end': end | string}) }}
{%- endmacro %}

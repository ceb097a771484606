{#-
  Returns the window of the batch as {start, end}: text dates, half-open, so end is the first day
  of the month after end_month, or the day after end_date. None when the batch has no window. Anything but the first day
  of a month is refused: it would silently cut a month in two.

  vars  start_month, end_month: first day of the first and of the last month, both inclusive
        start_date, end_date: first and last day, both inclusive, where the batch takes only part of its months. They
        count only together and beside the months, in which they must lie: alone they may be a project's own.
-#}
{% macro month_window() -%}
    {%- set start, last = var('start_month', none), var('end_month', none) -%}
    {%- if start is none and last is none -%}
        {{ return(none) }}
    {%- endif -%}
    {%- for name, month in [('start_month', start), ('end_month', last)] if month is not none -%}
        {%- if not modules.re.fullmatch('[12][0-9]{3}-(0[1-9]|1[0-2])-01', month | string) -%}
            {{ exceptions.raise_compiler_error(
                "var " ~ name ~ " is " ~ month ~ "; it must be the first day of a month, like '2024-01-01'"
            ) }}
        {%- endif -%}
    {%- endfor -%}
    {%- if start is none or last is none or start | string > last | string -%}
        {{ exceptions.raise_compiler_error(
            "start_month " ~ start ~ " and end_month " ~ last ~ " are not a window: give both, in order"
        ) }}
    {%- endif -%}
    {%- set first, last = start | string, last | string -%}
    {%- set year, month = last[:4] | int, last[5:7] | int -%}
    {%- set end = modules.datetime.date(year + month // 12, month % 12 + 1, 1) -%}
    {{ return(sluice.days_of({'start': first, 'end': end | string})) }}
{%- endmacro %}

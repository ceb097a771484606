{#-
  Returns a condition: the column lies in the months start_month to end_month, or in the days start_date to
  end_date of them; true without them.

  column  SQL expression of a date or timestamp (UTC)
  window  what month_window returned, where that was asked for already
  vars    start_month, end_month, start_date, end_date: see month_window
-#}
{% macro month_filter(column, window=none) -%}
    {{ return(adapter.dispatch('month_filter', 'sluice')(column, window or sluice.month_window())) }}
{%- endmacro %}

{% macro default__month_filter(column, window) -%}
    {%- if window is none -%}
        {{ return('true') }}
    {%- endif -%}
    {%- set start, end = sluice.date_literal(window.start), sluice.date_literal(window.end) -%}
    {{ return(column ~ ' >= ' ~ start ~ ' and ' ~ column ~ ' < ' ~ end) }}
{%- endmacro %}

{#-
  Returns the days start_date to end_date of a window of months, as {start, end}, half-open; all of it without them.

  months  {start, end}: text dates, half-open
  vars    start_date, end_date: see month_window
-#}
{% macro days_of(months) -%}
    {%- set first, last = var('start_date', none), var('end_date', none) -%}
    {%- if first is none or last is none -%}
        {{ return(months) }}
    {%- endif -%}
    {%- for name, day in [('start_date', first), ('end_date', last)] -%}
        {%- if not modules.re.fullmatch('[12][0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])', day | string) -%}
            {{ exceptions.raise_compiler_error("var " ~ name ~ " is " ~ day ~ "; it must be a day, like '2024-01-31'") }}
        {%- endif -%}
    {%- endfor -%}
    {%- set end = (modules.datetime.date.fromisoformat(last | string) + modules.datetime.timedelta(days=1)) | string -%}
    {%- if first | string > last | string or first | string < months.start or end > months.end -%}
        {{ exceptions.raise_compiler_error(
            "start_date " ~ first ~ " and end_date " ~ last ~ " are no days, in order, of the months from " ~ months.start
            ~ " to before " ~ months.end ~ "; vars of these names narrow a batch: a project's own need others"
        ) }}
    {%- endif -%}
    {{ return({'start': first | string, 'end': end}) }}
{%- endmacro %}

{#-
  Returns the first day that a run no longer writes, as text: the day after var incremental_end_date.
  None when the var is not set.
-#}
{% macro end_date() -%}
    {%- set last = var('incremental_end_date', none) -%}
    {%- if last is none -%}
        {{ return(none) }}
    {%- endif -%}
    {%- if not modules.re.fullmatch('[12][0-9]{3}-(0[1-9]|1[0-2])-[0-3][0-9]', last | string) -%}
        {{ exceptions.raise_compiler_error("var incremental_end_date is " ~ last ~ "; it must be a day, like '2024-01-31'") }}
    {%- endif -%}
    {{ return((modules.datetime.date.fromisoformat(last | string) + modules.datetime.timedelta(days=1)) | string) }}
{%- endmacro %}

{#-
  Returns the day before a day, both text like '2024-01-31'.

  day  text or date
-#}
{% macro day_before(day) -%}
    {%- set date = modules.datetime.date.fromisoformat(day | string) -%}
    {{ return((date - modules.datetime.timedelta(days=1)) | string) }}
{%- endmacro %}

{#-
  Returns a var that names a month as text like '2024-01-01', or none when it is not set.
  Anything but the first day of a month is refused: it would silently cut a month in two.

  name  start_month or end_month
-#}
{% macro month_var(name) -%}
    {%- set value = var(name, none) -%}
    {%- if value is none -%}
        {{ return(none) }}
    {%- endif -%}
    {%- if not modules.re.fullmatch('[12][0-9]{3}-(0[1-9]|1[0-2])-01', value | string) -%}
        {{ exceptions.raise_compiler_error(
            "var " ~ name ~ " is " ~ value ~ "; it must be the first day of a month, like '2024-01-01'"
        ) }}
    {%- endif -%}
    {{ return(value | string) }}
{%- endmacro %}

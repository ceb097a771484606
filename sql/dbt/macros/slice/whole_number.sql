{#-
  Returns a value as a whole number, none when there is none. Other text is refused.

  value  a number or text; none: the var
  name   the var
-#}
{% macro whole_number(value, name) -%}
    {%- set given = var(name, none) if value is none else value -%}
    {%- if given is none -%}
        {{ return(none) }}
    {%- endif -%}
    {%- if not modules.re.fullmatch('[0-9]{1,18}', given | string) -%}
        {{ exceptions.raise_compiler_error("var " ~ name ~ " is " ~ given ~ "; it must be a whole number") }}
    {%- endif -%}
    {{ return(given | int) }}
{%- endmacro %}

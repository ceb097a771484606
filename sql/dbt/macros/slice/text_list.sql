{#-
  Returns values as a list of SQL string literals, empty when there are none.
  A var that is set but names nothing is refused: a stage meant as one symbol would load them all.

  values  a list, or one text with commas; none: the var
  name    the var
-#}
{% macro text_list(values, name) -%}
    {%- set given = var(name, none) if values is none else values -%}
    {%- if given is none -%}
        {{ return([]) }}
    {%- endif -%}
    {%- set items = given if given is sequence and given is not string else (given | string).split(',') -%}
    {%- set literals = [] -%}
    {%- for item in items if item | string | trim -%}
        {%- do literals.append(sluice.quoted(item | string | trim)) -%}
    {%- endfor -%}
    {%- if not literals -%}
        {{ exceptions.raise_compiler_error("var " ~ name ~ " is empty: name a value, or leave the var out") }}
    {%- endif -%}
    {{ return(literals) }}
{%- endmacro %}

{#-
  Returns a condition: the symbol is one of the stage's; true when neither list is given.

  column   SQL expression of a symbol
  include  these symbols only: a list, or one text with commas; default: var symbol
  exclude  all but these; default: var symbol_exclude
-#}
{% macro symbol_filter(column, include=none, exclude=none) -%}
    {{ return(adapter.dispatch('symbol_filter', 'sluice')(column, include, exclude)) }}
{%- endmacro %}

{% macro default__symbol_filter(column, include, exclude) -%}
    {%- set conditions = [] -%}
    {%- for operator, symbols in [
        ('in', sluice.text_list(include, 'symbol')),
        ('not in', sluice.text_list(exclude, 'symbol_exclude')),
    ] if symbols -%}
        {%- do conditions.append(column ~ ' ' ~ operator ~ ' (' ~ symbols | join(', ') ~ ')') -%}
    {%- endfor -%}
    {{ return(conditions | join(' and ') or 'true') }}
{%- endmacro %}

{#-
  Returns a condition: the index lies in [start, end); an end left out is open, true without both.

  column    SQL expression of a whole number
  start     first index, inclusive; default: var <var_name>_start
  end       last index, exclusive; default: var <var_name>_end
  var_name  what the two vars are called, without _start and _end
-#}
{% macro index_range_filter(column, start=none, end=none, var_name='validator_index') -%}
    {{ return(adapter.dispatch('index_range_filter', 'sluice')(column, start, end, var_name)) }}
{%- endmacro %}

{% macro default__index_range_filter(column, start, end, var_name) -%}
    {%- set conditions = [] -%}
    {%- for operator, index in [
        ('>=', sluice.whole_number(start, var_name ~ '_start')),
        ('<', sluice.whole_number(end, var_name ~ '_end')),
    ] if index is not none -%}
        {%- do conditions.append(column ~ ' ' ~ operator ~ ' ' ~ index) -%}
    {%- endfor -%}
    {{ return(conditions | join(' and ') or 'true') }}
{%- endmacro %}

{#-
  Returns a condition: the row belongs to the slice that this run writes, its window and its stage.

  columns  names of the table's columns; `day`, `token` and `validator_index` each bring their filter
-#}
{% macro slice_filter(columns) -%}
    {%- set conditions = [sluice.window_filter('day')] -%}
    {%- if 'token' in columns -%}
        {%- do conditions.append(sluice.symbol_filter('token')) -%}
    {%- endif -%}
    {%- if 'validator_index' in columns -%}
        {%- do conditions.append(sluice.index_range_filter('validator_index')) -%}
    {%- endif -%}
    {{ conditions | join(' and ') }}
{%- endmacro %}

{#-
  Returns a condition: the id is one of the var `ids` (a list, or one text with commas); true without the var.
  Fails, naming it, when raw.price_histories does not know one: a slip would otherwise be a run that did nothing.

  column  SQL expression of an id
-#}
{% macro ids_filter(column) -%}
    {%- set ids = [] -%}
    {%- for literal in sluice.text_list(none, 'ids') -%}
        {%- do ids.append(sluice.whole_number(literal[1:-1], 'ids')) -%}
    {%- endfor -%}
    {%- if ids and execute -%}
        {%- if flags.FULL_REFRESH -%}
            {{ exceptions.raise_compiler_error('var ids with --full-refresh: the table would be left with these ids alone; use the var full_rebuild instead') }}
        {%- endif -%}
        {%- set found = run_query(
            'select distinct id from ' ~ source('raw', 'price_histories') ~ ' where id in (' ~ ids | join(', ') ~ ')'
        ).columns[0].values() | map('int') | list -%}
        {%- set unknown = ids | reject('in', found) | list -%}
        {%- if unknown -%}
            {{ exceptions.raise_compiler_error('unknown id ' ~ unknown | join(', ') ~ ': not in ' ~ source('raw', 'price_histories')) }}
        {%- endif -%}
    {%- endif -%}
    {{ return(column ~ ' in (' ~ ids | join(', ') ~ ')' if ids else 'true') }}
{%- endmacro %}

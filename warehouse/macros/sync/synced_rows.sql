{#-
  Returns a FROM clause with the rows of a table that sync-cursor fills, one for each key; while nothing was ever synced,
  a query of such columns without a row.

  table    name of the table among the source `synced`
  columns  a mapping: column, to text, decimal, timestamp or json
-#}
{% macro synced_rows(table, columns) -%}
    {%- set place = source('synced', table) -%}
    {%- set there = adapter.get_relation(place.database, place.schema, place.identifier) if execute else none -%}
    {%- if there is not none -%}
        from {{ there }}{{ ' final' if target.type == 'clickhouse' }}
    {%- else -%}
        from (
            select
            {%- for column, kind in columns.items() %}
                cast(null as {{ synced_type(kind) }}) as {{ column }},
            {%- endfor %}
                cast(null as {{ synced_type('timestamp') }}) as _synced_at
        ) as nothing_synced
        where 1 = 0
    {%- endif -%}
{%- endmacro %}

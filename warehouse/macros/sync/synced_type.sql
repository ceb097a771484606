{#-
  Returns the SQL type that sync-cursor gives a kind of column.

  kind  text, decimal, double, timestamp or json
-#}
{% macro synced_type(kind) -%}
    {%- set types = {
        'duckdb': {'text': 'varchar', 'decimal': 'decimal(38, 18)', 'double': 'double', 'timestamp': 'timestamp with time zone', 'json': 'json'},
        'postgres': {'text': 'text', 'decimal': 'numeric', 'double': 'double precision', 'timestamp': 'timestamp with time zone', 'json': 'jsonb'},
        'clickhouse': {
            'text': 'Nullable(String)', 'decimal': 'Nullable(Decimal(38, 18))', 'double': 'Nullable(Float64)',
            'timestamp': "Nullable(DateTime64(6, 'UTC'))", 'json': 'Nullable(String)',
        },
    } -%}
    {{ return(types[target.type][kind]) }}
{%- endmacro %}

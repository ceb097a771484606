{#-
  Returns the SQL type that sync-cursor gives a kind of column.

  kind  text, decimal, timestamp or json
-#}
{% macro synced_type(kind) -%}
    {%- set types = {
        'duckdb': {'text': 'varchar', 'decimal': 'decimal(38, 18)', 'timestamp': 'timestamp with time zone', 'json': 'json'},
        'postgres': {'text': 'text', 'decimal': 'numeric', 'timestamp': 'timestamp with time zone', 'json': 'jsonb'},
        'clickhouse': {
            'text': 'Nullable(String)', 'decimal': 'Nullable(Decimal(38, 18))',
            'timestamp': "Nullable(DateTime64(6, 'UTC'))", 'json': 'Nullable(String)',
        },
    } -%}
    {{ return(types[target.type][kind]) }}
{%- endmacro %}

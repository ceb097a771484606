{#-
  Merges one partition, so that of rows with equal keys only the newest is left. Returns nothing.
  Fails when there is nothing of that name to merge. Only ClickHouse has anything to do: elsewhere a
  run replaces its rows.

  database    text
  table_name  text
  partition   its value, text like '2026-04-01'
-#}
{% macro optimize_partition_final(database, table_name, partition) -%}
    {%- if execute -%}
        {%- do adapter.dispatch('optimize_partition_final', 'sluice')(database, table_name, partition) -%}
    {%- endif -%}
{%- endmacro %}

{% macro default__optimize_partition_final(database, table_name, partition) -%}
    {%- do log(target.type ~ ' has no partitions to merge: ' ~ table_name, info=true) -%}
{%- endmacro %}

{% macro clickhouse__optimize_partition_final(database, table_name, partition) -%}
    {%- do run_query(
        'optimize table ' ~ sluice.quoted_name(database) ~ '.' ~ sluice.quoted_name(table_name) ~ sluice.on_cluster()
        ~ ' partition ' ~ sluice.quoted(partition) ~ ' final deduplicate settings optimize_throw_if_noop = 1'
    ) -%}
{%- endmacro %}

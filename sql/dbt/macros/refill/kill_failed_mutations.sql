{#-
  Kills the mutation at which the mutations of a table are stuck: the earliest failing one. Those behind it
  then go on; run it again should the next one fail too. Returns nothing; logs what was killed.

  database    text
  table_name  text; none: of every table of the database
-#}
{% macro kill_failed_mutations(database, table_name=none) -%}
    {%- if execute -%}
        {%- do adapter.dispatch('kill_failed_mutations', 'sluice')(database, table_name) -%}
    {%- endif -%}
{%- endmacro %}

{% macro default__kill_failed_mutations(database, table_name) -%}
    {%- do log(target.type ~ ' has no mutations', info=true) -%}
{%- endmacro %}

{% macro clickhouse__kill_failed_mutations(database, table_name) -%}
    {%- set cluster = adapter.get_clickhouse_cluster_name() -%}
    {%- set mutations = 'clusterAllReplicas(' ~ cluster ~ ', system.mutations)' if cluster else 'system.mutations' -%}
    {%- set stuck = run_query(
        'select table, mutation_id, any(latest_fail_reason) from ' ~ mutations
        ~ ' where not is_done and latest_fail_reason <> ' ~ sluice.quoted('') ~ ' and database = ' ~ sluice.quoted(database)
        ~ (' and table = ' ~ sluice.quoted(table_name) if table_name is not none else '')
        ~ ' group by table, mutation_id order by table, min(create_time), mutation_id limit 1 by table'
    ) -%}
    {%- for row in stuck.rows -%}
        {%- do log('Killing ' ~ row[1] ~ ' of ' ~ database ~ '.' ~ row[0] ~ ': ' ~ row[2], info=true) -%}
        {%- do run_query(
            'kill mutation' ~ sluice.on_cluster() ~ ' where database = ' ~ sluice.quoted(database)
            ~ ' and table = ' ~ sluice.quoted(row[0]) ~ ' and mutation_id = ' ~ sluice.quoted(row[1]) ~ ' sync'
        ) -%}
    {%- else -%}
        {%- do log('No mutation of ' ~ database ~ ' is stuck', info=true) -%}
    {%- endfor -%}
{%- endmacro %}

{#- Returns ` on cluster "name"` when the profile names a cluster, else nothing. -#}
{% macro on_cluster() -%}
    {%- set cluster = adapter.get_clickhouse_cluster_name() -%}
    {{ return(' on cluster ' ~ cluster if cluster else '') }}
{%- endmacro %}

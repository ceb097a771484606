{#-
  Runs the strategy delete+insert on ClickHouse: the slice and not the keys, for the reasons that
  default__get_delete_insert_merge_sql gives. The partitions that it touches are put together beside the table and
  exchanged: no reader finds the days between the DELETE and the INSERT empty, and there is no mutation, which would
  write a new version of every part of the table for the sake of two days.

  existing_relation  the table
-#}
{% macro clickhouse__incremental_delete_insert(existing_relation, unique_key, incremental_predicates, is_distributed=False) %}
    {%- if is_distributed -%}
        {{ exceptions.raise_compiler_error(existing_relation ~ ": delete+insert of a slice knows no distributed tables") }}
    {%- endif -%}
    {%- set names = adapter.get_columns_in_relation(existing_relation) | map(attribute='name') | list -%}
    {%- set columns = get_quoted_csv(names) -%}
    {%- set slice = slice_filter(names) -%}
    {#- A name of its own every time would leave a table behind with every run that is killed. -#}
    {%- set made = existing_relation.incorporate(path={'identifier': existing_relation.identifier ~ '__dbt_new_data'}) -%}
    {%- set partitions = 'select distinct _partition_id from ' -%}

    {%- do drop_relation_if_exists(made) -%}
    {%- call statement('main') -%}
        {{ get_create_table_as_sql(False, made, sql) }}
    {%- endcall -%}
    {%- set touched = partitions ~ made ~ ' union distinct ' ~ partitions ~ existing_relation ~ ' where ' ~ slice -%}
    {%- set touched = run_query(touched).rows | map(attribute=0) | list -%}
    {%- if touched -%}
        {%- call statement('keep_rest') -%}
            insert into {{ made }} ({{ columns }})
            select {{ columns }} from {{ existing_relation }}
            where _partition_id in ('{{ touched | join("', '") }}') and not ({{ slice }})
        {%- endcall -%}
        {%- set filled = run_query(partitions ~ made).rows | map(attribute=0) | list -%}
        {%- set exchanges = [] -%}
        {%- for id in touched -%}
            {%- do exchanges.append(
                "replace partition id '" ~ id ~ "' from " ~ made if id in filled else "drop partition id '" ~ id ~ "'"
            ) -%}
        {%- endfor -%}
        {%- call statement('exchange') -%}
            alter table {{ existing_relation }} {{ exchanges | join(', ') }}
        {%- endcall -%}
    {%- endif -%}
    {%- do adapter.drop_relation(made) -%}
{%- endmacro %}

{#-
  Returns the statements of the strategy delete+insert: delete the slice that this run writes, insert it anew.

  dbt's own deletes by key, which keeps a row that the source no longer has (a balance that a late
  transfer took to zero), and compares keys over the whole table. A run writes a whole slice, so the
  whole slice goes: no row outlives its source, and the engine skips every block of other days.
  The slice is worked out here and not in incremental_predicates because dbt renders those when it
  parses, with the vars of whatever run parsed the project.

  target, source  relations: the table, and the rows of this run
  dest_columns    columns of the table
-#}
{% macro default__get_delete_insert_merge_sql(target, source, unique_key, dest_columns, incremental_predicates) -%}
    {%- set names = dest_columns | map(attribute='name') | list -%}
    {%- if 'day' not in names -%}
        {{ exceptions.raise_compiler_error(target ~ " has no column `day`: delete+insert cannot tell what this run writes") }}
    {%- endif -%}

    delete from {{ target }} where {{ slice_filter(names) }};

    insert into {{ target }} ({{ get_quoted_csv(names) }})
    select {{ get_quoted_csv(names) }} from {{ source }}
{%- endmacro %}

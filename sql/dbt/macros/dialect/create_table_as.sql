{#-
  Returns the statement that makes a table from a query.

  relation       the table
  query          SQL
  rows           false: with the query's columns only
  if_not_exists  true: leave a table that is there as it is
-#}
{% macro create_table_as(relation, query, rows=true, if_not_exists=false) -%}
    {%- set create = 'create table ' ~ ('if not exists ' if if_not_exists else '') ~ relation -%}
    {%- set content = query if rows else 'select * from (' ~ query ~ ') as columns_only limit 0' -%}
    {{ return(adapter.dispatch('create_table_as', 'sluice')(create, content)) }}
{%- endmacro %}

{% macro default__create_table_as(create, content) -%}
    {{ return(create ~ ' as ' ~ content) }}
{%- endmacro %}

{% macro clickhouse__create_table_as(create, content) -%}
    {{ return(create ~ ' engine = MergeTree order by tuple() as ' ~ content) }}
{%- endmacro %}

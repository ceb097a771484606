{#-
  Returns the statements of the strategy rest_of_series: of each series in the new rows, what is stored from the first new
  bar_seq on makes place for them. The unique_key without bar_seq, day, ts and roll names a series.

  arg_dict  of dbt: target_relation, temp_relation, unique_key, dest_columns
-#}
{% macro get_incremental_rest_of_series_sql(arg_dict) -%}
    {%- set target, source = arg_dict['target_relation'], arg_dict['temp_relation'] -%}
    {%- set columns = get_quoted_csv(arg_dict['dest_columns'] | map(attribute='name')) -%}
    {%- set keys = arg_dict['unique_key'] | reject('in', ['bar_seq', 'day', 'ts', 'roll']) | list -%}

    delete from {{ target }} as stored
    using (select {{ keys | join(', ') }}, min(bar_seq) as first_seq from {{ source }} group by {{ keys | join(', ') }}) as fresh
    where {% for key in keys %}stored.{{ key }} = fresh.{{ key }} and {% endfor %}stored.bar_seq >= fresh.first_seq;

    insert into {{ target }} ({{ columns }})
    select {{ columns }} from {{ source }}
{%- endmacro %}

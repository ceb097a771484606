{#-
  Returns a condition: the last daily bar of the id is not older than the var staleness_hours; true with the var
  skip_stale_check, and where the table is built anew. Hours count to now, or to the end of the var incremental_end_date.

  column  SQL expression of an id
-#}
{% macro fresh_ids_filter(column) -%}
    {%- set bars = ref('price_bars_1d') -%}
    {%- if not is_incremental() or var('skip_stale_check', false) -%}
        {{ return('true') }}
    {%- endif -%}
    {%- set now = sluice.end_date() or modules.datetime.datetime.utcnow().isoformat(' ', 'seconds') -%}
    {%- set limit = dbt.dateadd('hour', '-' ~ sluice.whole_number(var('staleness_hours', 48), 'staleness_hours'), "cast('" ~ now ~ "' as timestamp)") | trim -%}
    {{ return(column ~ ' in (select id from ' ~ bars ~ ' group by id having max(time_close) >= ' ~ limit ~ ')') }}
{%- endmacro %}

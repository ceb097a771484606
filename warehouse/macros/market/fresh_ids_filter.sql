{#-
  Returns a condition: the last daily bar of the id is not older than the var staleness_hours; true with the var
  skip_stale_check, and where the table is built anew. Hours count to now, or to the end of the var incremental_end_date.
  The ids that are left out are noted.

  column  SQL expression of an id
-#}
{% macro fresh_ids_filter(column) -%}
    {%- set bars = ref('price_bars_1d') -%}
    {%- if not is_incremental() or var('skip_stale_check', false) -%}
        {{ return('true') }}
    {%- endif -%}
    {%- set now = sluice.end_date() or modules.datetime.datetime.utcnow().isoformat(' ', 'seconds') -%}
    {%- set limit = dbt.dateadd('hour', '-' ~ sluice.whole_number(var('staleness_hours', 48), 'staleness_hours'), "cast('" ~ now ~ "' as timestamp)") | trim -%}
    {%- if execute -%}
        {%- set told = [] -%}
        {%- for row in run_query(
            'select id, max(day) from ' ~ bars ~ ' where ' ~ ids_filter('id') ~ ' group by id having max(time_close) < ' ~ limit ~ ' order by id'
        ).rows -%}{%- do told.append('id ' ~ row[0] ~ ' since ' ~ row[1]) -%}{%- endfor -%}
        {%- if told -%}
            {%- do sluice.note('stale, EMAs left as they are: ' ~ sluice.listed(told)) -%}
        {%- endif -%}
    {%- endif -%}
    {{ return(column ~ ' in (select id from ' ~ bars ~ ' group by id having max(time_close) >= ' ~ limit ~ ')') }}
{%- endmacro %}

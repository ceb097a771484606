{#-
  Returns a query of the ids whose source begins before their bars do, with its first day: days were filled in, every bar_seq
  after them is another, and the id is built anew, which is noted. With the var on_backfill 'stop' such an id is an error that names it.

  bars  relation of daily bars
-#}
{% macro backfilled_ids(bars) -%}
    {%- set on_backfill = var('on_backfill', 'rebuild') -%}
    {%- if on_backfill not in ('rebuild', 'stop') -%}
        {{ exceptions.raise_compiler_error("var on_backfill is " ~ on_backfill ~ "; it must be 'rebuild' or 'stop'") }}
    {%- endif -%}
    {%- set query -%}
        select known.id, source.first_day
        from (select id, min(day) as daily_min_seen from {{ bars }} group by id) as known
        inner join (
            select prices.id, min(day) as first_day
            from ({{ judged_prices('prices.ts < (select max(day) from (select min(day) as day from ' ~ bars ~ ' group by id) as firsts)') }}) as prices
            where reason is null
            group by prices.id
        ) as source on known.id = source.id
        where source.first_day < known.daily_min_seen
    {%- endset -%}
    {%- if execute -%}
        {%- set found = run_query(query ~ ' order by known.id').rows -%}
        {%- if found and on_backfill == 'stop' -%}
            {{ exceptions.raise_compiler_error('backfilled id ' ~ found | map(attribute=0) | join(', ') ~ ': the source now begins before the bars do (var on_backfill is stop)') }}
        {%- elif found -%}
            {%- set told = [] -%}
            {%- for row in found -%}{%- do told.append('id ' ~ row[0] ~ ' rebuilt from ' ~ row[1]) -%}{%- endfor -%}
            {%- do sluice.note('backfill: ' ~ sluice.listed(told)) -%}
        {%- endif -%}
    {%- endif -%}
    {{ return(query) }}
{%- endmacro %}

{#-
  Writes raw.price_histories, synthetic; make_sample_data runs it too. Returns nothing. Nothing on ClickHouse, which has no
  models that read it.

  The rows of a day do not depend on where the sample ends: a later run adds days, an earlier end takes days away, and
  a run over what is there does nothing.

  ids  how many; default: 10 times the var sample_scale, at least 3
  end  last day, like '2026-11-21'; default: var sample_end, else the current UTC date
-#}
{% macro make_price_histories(ids=none, end=none) -%}
    {%- set ids = ids or [3, (10 * var('sample_scale')) | round | int] | max -%}
    {%- set end = (end or var('sample_end', none) or run_started_at.strftime('%Y-%m-%d')) | string -%}
    {%- set table = source('raw', 'price_histories') -%}
    {%- if target.type != 'clickhouse' -%}
        {%- do adapter.create_schema(table) -%}
        {%- do sluice.run_together([sluice.create_table_as(table, sample_price_histories(1, price_histories_start()), rows=false, if_not_exists=true)]) -%}
        {#- The future_day row is planted a century ahead. -#}
        {%- set found = run_query(
            'select count(distinct id), max(cast(ts as date)) from ' ~ table ~ ' where ts < ' ~ sluice.date_literal('2100-01-01')
        ).rows[0] -%}
        {%- if found[0] != ids or found[1] | string != end -%}
            {%- set kept = [found[1] | string, end] | min if found[0] == ids else day_before(price_histories_start()) -%}
            {%- set later = 'cast(ts as date) > ' ~ sluice.date_literal(kept) -%}
            {%- do sluice.run_together([
                'delete from ' ~ table ~ ' where ' ~ later,
                'insert into ' ~ table ~ ' select * from (' ~ sample_price_histories(ids, end) ~ ') as made where ' ~ later,
            ]) -%}
            {%- do log('Synthetic price histories written: ' ~ ids ~ ' ids, after ' ~ kept ~ ', to ' ~ end, info=true) -%}
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}

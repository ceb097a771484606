{#-
  Writes the schema `raw` with synthetic data. Returns nothing; `dbt run-operation make_sample_data` runs it.

  The rows of a day do not depend on where the sample ends, so a later run only adds days and a run
  over what is there does nothing. Another scale starts over; an earlier end takes the later days away.

  sample_scale  1 = 40 tokens, 2,000 addresses, 150 validators; default: var sample_scale
  sample_end    last day, like '2026-11-21'; default: var sample_end, else the current UTC date
  rewrite_from  write the days from this one on again, like '2026-04-17'
  market        false: without raw.price_histories
-#}
{% macro make_sample_data(sample_scale=none, sample_end=none, rewrite_from=none, market=true) -%}
    {%- set scale = (var('sample_scale') if sample_scale is none else sample_scale) | float -%}
    {%- set end = (sample_end or var('sample_end', none) or run_started_at.strftime('%Y-%m-%d')) | string -%}
    {%- set size = sample_size(scale) -%}

    {%- do adapter.create_schema(source('raw', 'tokens')) -%}
    {%- do start_sample(size, 'recipe 2, scale ' ~ scale ~ (', from ' ~ sample_start() if var('sample_start', none) else '')) -%}

    {%- set last_day = sample_last_day() -%}
    {%- set kept = [last_day, end] | min -%}
    {%- if rewrite_from -%}
        {%- set kept = [kept, day_before(rewrite_from)] | min -%}
    {%- endif -%}

    {%- if kept == end == last_day -%}
        {%- do log('Synthetic data up to date: scale ' ~ scale ~ ', to ' ~ end, info=true) -%}
    {%- else -%}
        {%- do write_sample_days(size, kept, end) -%}
        {%- do log('Synthetic data written: scale ' ~ scale ~ ', after ' ~ kept ~ ', to ' ~ end, info=true) -%}
    {%- endif -%}
    {%- if market -%}
        {%- do make_price_histories([3, (10 * scale) | round | int] | max, end) -%}
    {%- endif -%}
{%- endmacro %}

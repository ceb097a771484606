{#-
  Returns raw.blocks_daily: one row per day, with a block every twelve seconds.

  end  last day, text
-#}
{% macro sample_blocks_daily(end) -%}
    with days as (
        {{ sample_days(end) }}
    ),

    numbered as (
        select day, row_number() over (order by day) as day_number
        from days
    )

    select
        day,
        day_number * 7200 as first_block,
        day_number * 7200 + 7199 as last_block
    from numbered
{%- endmacro %}

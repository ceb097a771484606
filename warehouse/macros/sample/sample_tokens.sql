{#-
  Returns raw.tokens: the three tokens with a stage of their own first, then the legacy ones.

  size  of sample_size
-#}
{% macro sample_tokens(size) -%}
    {#- lpad cuts what is longer. -#}
    {%- set digits = [2, (size.tokens - 1) | string | length] | max -%}
    with numbers as (
        {{ sluice.number_series(size.tokens) }}
    )

    select
        case number
            when 0 then 'USDC'
            when 1 then 'sDAI'
            when 2 then 'wstETH'
            -- A quote in a symbol, because real lists have them.
            when 3 then 'O''SYN'
            else concat('SYN', lpad(cast(number as varchar), {{ digits }}, '0'))
        end as token,
        case number
            when 0 then {{ sluice.date_literal('2022-03-14') }}
            when 1 then {{ sluice.date_literal('2023-02-06') }}
            when 2 then {{ sluice.date_literal('2023-05-22') }}
            when 3 then {{ sluice.date_literal(sample_start()) }}
            else {{ sluice.add_days(sluice.date_literal(sample_start()), draw('first day', ['number'], 900)) }}
        end as first_day,
        number < 2 as is_stable
    from numbers
{%- endmacro %}

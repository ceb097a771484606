{#-
  Returns raw.price_histories: per id and day from the id's first day on, as a price feed delivers them, with one defect
  of each kind planted on days that never move (in the comments). Prices swing like those of sample_prices; the open of a
  day is the close before. Volumes are whole numbers, so their sums are exact in any order.

  ids  how many
  end  last day, text
-#}
{% macro sample_price_histories(ids, end) -%}
    {%- set start = modules.datetime.date.fromisoformat(price_histories_start()) -%}
    {%- set size = (modules.datetime.date.fromisoformat(end) - start).days + 1 -%}
    {%- set day = sluice.date_literal -%}
    {%- set to_usd = 'cast(100000000000 as double precision)' -%}
    with ids as (
        select
            number,
            case number
                {%- for id in [1, 52, 825, 1027, 1839, 1958, 2010, 3408, 5426, 5805] %}
                when {{ loop.index0 }} then {{ id }}
                {%- endfor %}
                else 10000 + number
            end as id
        from ({{ sluice.number_series(ids) }}) as numbers
    ),

    listed as (
        select
            ids.*,
            case number when 0 then 0 else {{ draw('listed', ['id'], 45) }} end as first_age,
            {{ draw('base price', ['id'], 20000) }} + 50 as base_cents,
            {{ draw('swing', ['id'], 9) }} + 2 as swing,
            {{ draw('supply', ['id'], 90000) }} + 10000 as supply
        from ids
    ),

    closes as (
        select
            listed.*,
            days.number as age,
            base_cents
            * (500 + abs((days.number * swing) % 2000 - 1000))
            * (970 + {{ draw('close', ['id', 'days.number'], 61) }}) as close_units
        from listed
        inner join ({{ sluice.number_series(size) }}) as days on days.number >= listed.first_age
    ),

    paired as (
        select
            closes.*,
            {{ sluice.add_days(day(start), 'age') }} as day,
            coalesce(lag(close_units) over (partition by id order by age), close_units) as open_units
        from closes
    ),

    bars as (
        select
            number,
            id,
            day,
            {{ dbt.dateadd('second', '86399', 'cast(day as timestamp)') | trim }} as ts,
            cast(open_units * 1000 as double precision) / {{ to_usd }} as open,
            cast(greatest(open_units, close_units) * (1000 + {{ draw('high', ['id', 'day'], 30) }}) as double precision) / {{ to_usd }} as high,
            cast(least(open_units, close_units) * (1000 - {{ draw('low', ['id', 'day'], 30) }}) as double precision) / {{ to_usd }} as low,
            cast(close_units * 1000 as double precision) / {{ to_usd }} as close,
            cast({{ draw('volume', ['id', 'day'], 1000000000) }} as double precision) as volume,
            cast(close_units * supply as double precision) / cast(100000000 as double precision) as market_cap,
            {{ dbt.dateadd('second', draw('time high', ['id', 'day'], 86400), 'cast(day as timestamp)') | trim }} as time_high,
            {{ dbt.dateadd('second', draw('time low', ['id', 'day'], 86400), 'cast(day as timestamp)') | trim }} as time_low
        from paired
    ),

    delivered as (
        select
            id,
            ts,
            case
                -- open_or_close_outside_range
                when number = 1 and day = {{ day('2022-08-09') }} then high * 1.5
                else open
            end as open,
            case
                -- high_below_low
                when number = 0 and day = {{ day('2021-05-19') }} then low / 2
                else high
            end as high,
            case
                -- nonpositive
                when number = 1 and day = {{ day('2020-03-12') }} then 0
                else low
            end as low,
            case
                -- null_price
                when number = 0 and day = {{ day('2019-06-30') }} then null
                else close
            end as close,
            volume,
            market_cap,
            case
                -- repaired: the day after
                when number = 2 and day = {{ day('2021-11-10') }} then {{ sluice.add_days('day', 1) }}
                else time_high
            end as time_high,
            case
                -- repaired: missing
                when number = 2 and day = {{ day('2023-03-11') }} then null
                else time_low
            end as time_low
        from bars
        -- missing days: three together, and one that is the last of its month
        where
            not (number = 0 and day between {{ day('2023-07-14') }} and {{ day('2023-07-16') }})
            and not (number = 2 and day = {{ day('2022-12-31') }})

        union all

        -- duplicate_day: the same day delivered earlier
        select
            id, {{ dbt.dateadd('hour', -6, 'ts') | trim }} as ts, open, high, low, open as close,
            volume, market_cap, time_high, time_low
        from bars
        where number = 2 and day = {{ day('2024-02-29') }}

        union all

        -- future_day
        select
            id, {{ dbt.dateadd('day', 36525, 'ts') | trim }} as ts, open, high, low, close,
            volume, market_cap, time_high, time_low
        from bars
        where number = 1 and day = {{ day('2024-06-15') }}
    )

    select cast(id as integer) as id, ts, open, high, low, close, volume, market_cap, cast(time_high as timestamp) as time_high, cast(time_low as timestamp) as time_low
    from delivered
{%- endmacro %}

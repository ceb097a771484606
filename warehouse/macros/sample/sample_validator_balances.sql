{#-
  Returns raw.validator_balances: per validator and day, in gwei (10^-9 of a coin). A validator starts
  with 32 coins, later the higher its index; what it earns is withdrawn each time it nears one
  coin. One in ten leaves after 900 days.

  size  of sample_size
  end   last day, text
-#}
{% macro sample_validator_balances(size, end) -%}
    {%- set step = 900000 // size.validators -%}
    with days as (
        {{ sample_days(end) }}
    ),

    validators as (
        select
            number * {{ step }} as validator_index,
            {{ draw('rate', ['number'], 400) }} + 2300 as thousand_gwei_per_day,
            {{ draw('leaves', ['number'], 10) }} = 0 as leaves
        from ({{ sluice.number_series(size.validators) }}) as numbers
    ),

    lives as (
        select
            validators.*,
            {{ sluice.add_days(sluice.date_literal(sample_start()), '(validator_index * 144 - validator_index * 144 % 100000) / 100000') }} as first_day
        from validators
    ),

    ages as (
        select
            lives.*,
            days.day,
            row_number() over (partition by lives.validator_index order by days.day) as age_days
        from lives
        inner join days on days.day >= lives.first_day
    )

    select
        cast(validator_index as bigint) as validator_index,
        day,
        cast(
            32000000000
            + (age_days * thousand_gwei_per_day * 1000) % 1000000000
            + {{ draw('luck', ['validator_index', 'day'], 90000) }}
            as bigint
        ) as balance_gwei
    from ages
    where age_days <= 900 or not leaves
{%- endmacro %}

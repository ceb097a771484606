{#-
  Returns raw.prices: per token and day from the token's first day on. Stable tokens stay within
  0.3 % of 1 USD; the others swing between half and one and a half times a base price, with noise.

  end  last day, text
-#}
{% macro sample_prices(end) -%}
    with days as (
        {{ sample_days(end) }}
    ),

    tokens as (
        select
            token,
            first_day,
            is_stable,
            {{ draw('base price', ['token'], 20000) }} + 50 as base_cents,
            {{ draw('swing', ['token'], 9) }} + 2 as swing
        from {{ source('raw', 'tokens') }}
    ),

    parts as (
        select
            tokens.*,
            days.day,
            row_number() over (partition by tokens.token order by days.day) as age_days,
            {{ draw('price', ['tokens.token', 'days.day'], 61) }} as noise
        from tokens
        inner join days on days.day >= tokens.first_day
    )

    select
        token,
        day,
        case
            when is_stable then {{ sluice.fixed_point('(9970 + noise)', 4) }}
            else {{ sluice.fixed_point('(base_cents * (500 + abs((age_days * swing) % 2000 - 1000)) * (970 + noise))', 8) }}
        end as price_usd
    from parts
{%- endmacro %}

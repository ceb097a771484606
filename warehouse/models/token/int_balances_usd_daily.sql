{{ config(
    materialized='incremental',
    incremental_strategy=(
        'append'
        if target.type == 'clickhouse' and (var('start_month', none) or var('incremental_end_date', none))
        and not var('replace_partitions', false)
        else 'delete+insert'
    ),
    unique_key=['token', 'address', 'day'],
    engine='ReplacingMergeTree()',
    order_by='(token, address, day)',
    partition_by='toStartOfMonth(day)',
) }}

with balances as (
    select token, address, day, balance
    from {{ ref('int_balances_daily') }}
    {{ sluice.apply_monthly_incremental_filter('day') }}
        and {{ sluice.symbol_filter('token') }}
),

prices as (
    select token, day, price_usd
    from {{ ref('int_prices_daily') }}
    {{ sluice.apply_monthly_incremental_filter('day') }}
        and {{ sluice.symbol_filter('token') }}
)

select
    balances.token as token,
    balances.address as address,
    balances.day as day,
    balances.balance,
    {{ sluice.decimal_places('balances.balance * coalesce(prices.price_usd, 0)', 2) }} as balance_usd
from balances
left join prices
    on prices.token = balances.token
    and prices.day = balances.day

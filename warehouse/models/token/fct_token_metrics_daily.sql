{{ config(materialized='table', engine='MergeTree()', order_by='(token, day)') }}

with supply as (
    select token, day, supply, holders
    from {{ ref('int_supply_holders_daily') }}
),

value_held as (
    select
        token,
        day,
        sum(balance_usd) as value_held_usd,
        sum(case when balance_usd >= 100000 then 1 else 0 end) as large_holders
    from {{ ref('int_balances_usd_daily') }}
    group by token, day
),

activity as (
    select
        token,
        day,
        count(*) as active_addresses,
        sum(abs(delta)) as moved
    from {{ ref('int_transfers_daily') }}
    group by token, day
),

prices as (
    select token, day, price_usd
    from {{ ref('int_prices_daily') }}
)

select
    supply.token as token,
    supply.day as day,
    prices.price_usd,
    supply.supply,
    supply.holders,
    cast(value_held.large_holders as bigint) as large_holders,
    cast(value_held.value_held_usd as decimal(18, 2)) as value_held_usd,
    coalesce(activity.active_addresses, 0) as active_addresses,
    cast(coalesce(activity.moved, 0) as decimal(18, 4)) as moved
from supply
left join value_held
    on value_held.token = supply.token
    and value_held.day = supply.day
left join activity
    on activity.token = supply.token
    and activity.day = supply.day
left join prices
    on prices.token = supply.token
    and prices.day = supply.day

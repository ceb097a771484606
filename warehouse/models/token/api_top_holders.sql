{{ config(materialized='view') }}

with last_day as (
    select max(day) as day
    from {{ ref('int_balances_usd_daily') }}
),

ranked as (
    select
        balances.token as token,
        balances.address as address,
        balances.day as day,
        balances.balance,
        balances.balance_usd,
        row_number() over (
            partition by balances.token
            -- The address settles ties: the same ten holders every time.
            order by balances.balance desc, balances.address
        ) as holder_rank
    from {{ ref('int_balances_usd_daily') }} as balances
    inner join last_day
        on last_day.day = balances.day
)

select token, holder_rank, address, day, balance, balance_usd
from ranked
where holder_rank <= 10

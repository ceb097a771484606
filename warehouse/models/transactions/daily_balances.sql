{{ config(materialized='table', engine='MergeTree()', order_by='tuple()') }}

with movements as (
    select day, token, cast(amount as {{ synced_type('double') }}) as delta from {{ ref('tx_unified') }}
    union all
    select day, counter_token, counter_amount from {{ ref('tx_unified') }} where counter_token is not null
    union all
    select day, fee_token, -cast(fee as {{ synced_type('double') }}) from {{ ref('tx_unified') }} where fee_token is not null
),

days as (
    select day, token, sum(delta) as delta
    from movements
    where token is not null and delta is not null
    group by day, token
)

select
    day as date,
    token,
    delta,
    sum(delta) over (partition by token order by day rows between unbounded preceding and current row) as balance
from days

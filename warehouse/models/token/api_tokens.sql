{{ config(materialized='view') }}

with last_days as (
    select token, max(day) as day
    from {{ ref('fct_token_metrics_daily') }}
    group by token
)

select
    tokens.token as token,
    tokens.is_stable,
    metrics.day as day,
    metrics.price_usd,
    metrics.supply,
    metrics.holders,
    metrics.value_held_usd
from {{ source('raw', 'tokens') }} as tokens
inner join last_days
    on last_days.token = tokens.token
inner join {{ ref('fct_token_metrics_daily') }} as metrics
    on metrics.token = last_days.token
    and metrics.day = last_days.day

{{ config(materialized='view') }}

with days as (
    select
        metrics.*,
        cast({{ dbt.date_trunc('month', 'day') }} as date) as month,
        row_number() over (
            partition by token, {{ dbt.date_trunc('month', 'day') }} order by day desc
        ) as days_from_end
    from {{ ref('fct_token_metrics_daily') }} as metrics
)

select
    token,
    month,
    max(case when days_from_end = 1 then price_usd end) as closing_price_usd,
    max(case when days_from_end = 1 then supply end) as closing_supply,
    max(case when days_from_end = 1 then holders end) as closing_holders,
    cast(sum(moved) as decimal(18, 4)) as moved
from days
group by token, month

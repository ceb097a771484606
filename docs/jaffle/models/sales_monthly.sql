{{ config(materialized='table') }}

select date_trunc('month', day) as month, sum(orders) as orders, sum(revenue) as revenue
from {{ ref('sales_daily') }}
group by 1

{{ config(materialized='table') }}

select customer_id, name, count(order_id) as orders, coalesce(sum(amount), 0) as revenue
from {{ ref('stg_customers') }}
left join {{ ref('stg_orders') }} using (customer_id)
group by 1, 2

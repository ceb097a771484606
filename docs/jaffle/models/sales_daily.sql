{{ config(materialized='incremental') }}

select ordered_on as day, product, count(*) as orders, sum(amount) as revenue
from {{ ref('stg_orders') }}
{% if is_incremental() %}
where ordered_on >= (select max(day) from {{ this }})
{% endif %}
group by 1, 2

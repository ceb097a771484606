select id as order_id, customer_id, ordered_on, product, amount_cents / 100.0 as amount
from read_csv('{{ env_var("HOME") }}/jaffle/data/orders.csv')

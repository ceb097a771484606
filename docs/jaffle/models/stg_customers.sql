select id as customer_id, name
from read_csv('{{ env_var("HOME") }}/jaffle/data/customers.csv')

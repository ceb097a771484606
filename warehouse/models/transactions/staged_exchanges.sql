{{ config(materialized='view') }}

{%- set trades = {
    'source': 'text', 'txid': 'text', 'datetime': 'timestamp', 'base': 'text', 'quote': 'text', 'side': 'text',
    'amount': 'decimal', 'price': 'decimal', 'fee': 'decimal', 'fee_currency': 'text',
} -%}
{%- set transfers = {
    'source': 'text', 'kind': 'text', 'txid': 'text', 'datetime': 'timestamp', 'currency': 'text', 'amount': 'decimal',
    'fee': 'decimal', 'fee_currency': 'text', 'status': 'text',
} %}

select
    source,
    txid,
    datetime as traded_at,
    base as token,
    quote as counter_token,
    case when side = 'sell' then -amount else amount end as amount,
    -- A product of two decimals of 18 places fits no decimal.
    case when side = 'sell' then 1 else -1 end * cast(amount as {{ synced_type('double') }}) * cast(price as {{ synced_type('double') }})
        as counter_amount,
    fee_currency as fee_token,
    fee,
    _synced_at as synced_at
{{ synced_rows('raw_exchanges_trades', trades) }}

union all

select
    source,
    {{ dbt.concat(['kind', "'/'", 'txid']) }} as txid,
    datetime as traded_at,
    currency as token,
    cast(null as {{ synced_type('text') }}) as counter_token,
    case when kind = 'withdrawal' then -amount else amount end as amount,
    cast(null as {{ synced_type('double') }}) as counter_amount,
    fee_currency as fee_token,
    fee,
    _synced_at as synced_at
from (select * {{ synced_rows('raw_exchanges_transfers', transfers) }}) as moved
-- What is pending comes again when it is done: with it, `_synced_at` changes.
where status is null or status = 'ok'

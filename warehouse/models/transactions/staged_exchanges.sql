{{ config(materialized='view') }}

{%- set columns = {
    'source': 'text', 'txid': 'text', 'datetime': 'timestamp', 'base': 'text', 'quote': 'text', 'side': 'text',
    'amount': 'decimal', 'price': 'decimal', 'fee': 'decimal', 'fee_currency': 'text',
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
{{ synced_rows('raw_exchanges_trades', columns) }}

{{ config(materialized='view') }}

{%- set columns = {
    'chain': 'text', 'tx_hash': 'text', 'position': 'text', 'block_timestamp': 'timestamp', 'address': 'text',
    'to_address': 'text', 'token_symbol': 'text', 'value': 'decimal',
} %}

select
    chain as source,
    {{ dbt.concat(['tx_hash', "'/'", '"position"' if target.type != 'clickhouse' else 'position']) }} as txid,
    block_timestamp as traded_at,
    token_symbol as token,
    case when to_address = address then value else -value end as amount,
    _synced_at as synced_at
{{ synced_rows('raw_onchain_transfers', columns) }}

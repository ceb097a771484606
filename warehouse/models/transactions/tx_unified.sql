{{ config(
    materialized='incremental',
    incremental_strategy='legacy' if target.type == 'clickhouse' else 'merge',
    unique_key=['domain', 'source', 'txid'],
    on_schema_change='append_new_columns',
    engine='MergeTree()',
    order_by='tuple()',
) }}

with transactions as (
    select
        'exchange' as domain, source, txid, traded_at, token, amount, counter_token, counter_amount, fee_token, fee,
        synced_at
    from {{ ref('staged_exchanges') }}

    union all

    select
        'onchain' as domain, source, txid, traded_at, token, amount, cast(null as {{ synced_type('text') }}),
        cast(null as {{ synced_type('double') }}),
        cast(null as {{ synced_type('text') }}), cast(null as {{ synced_type('decimal') }}), synced_at
    from {{ ref('staged_onchain') }}
)

select *, {{ utc_day('traded_at') }} as day
from transactions
{% if is_incremental() -%}
-- By when a row was loaded, not by its own time: what comes late, or changes, is taken, however old it is.
where synced_at >= (
    select {{ dbt.dateadd('day', -sluice.lookback(), 'max(synced_at)') }} from {{ this }}
)
    or not exists (select 1 from {{ this }})
{%- endif %}

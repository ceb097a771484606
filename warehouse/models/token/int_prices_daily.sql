{{ config(
    materialized='incremental',
    incremental_strategy=(
        'append'
        if target.type == 'clickhouse' and (var('start_month', none) or var('incremental_end_date', none))
        and not var('replace_partitions', false)
        else 'delete+insert'
    ),
    unique_key=['token', 'day'],
    engine='ReplacingMergeTree()',
    order_by='(token, day)',
    partition_by='toStartOfMonth(day)',
) }}

select token, day, price_usd
from {{ source('raw', 'prices') }}
{{ sluice.apply_monthly_incremental_filter('day') }}
    and {{ sluice.symbol_filter('token') }}

{{ config(
    materialized='incremental',
    incremental_strategy=(
        'append'
        if target.type == 'clickhouse' and (var('start_month', none) or var('incremental_end_date', none))
        and not var('replace_partitions', false)
        else 'delete+insert'
    ),
    unique_key=['token', 'address', 'day'],
    engine='ReplacingMergeTree()',
    order_by='(token, address, day)',
    partition_by='toStartOfMonth(day)',
) }}

with transfers as (
    select
        token,
        from_address,
        to_address,
        cast(block_time as date) as day,
        amount
    from {{ source('raw', 'transfers') }}
    {{ sluice.apply_monthly_incremental_filter('block_time') }}
        and {{ sluice.symbol_filter('token') }}
),

legs as (
    select token, to_address as address, day, amount as delta
    from transfers

    union all

    select token, from_address as address, day, -amount as delta
    from transfers
)

select
    token,
    address,
    day,
    cast(sum(delta) as decimal(18, 4)) as delta,
    count(*) as transfers
from legs
where address <> {{ sluice.quoted(var('zero_address')) }}
group by token, address, day
having sum(delta) <> 0

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

with deltas as (
    select token, address, day, delta
    from {{ ref('int_transfers_daily') }}
    {{ sluice.apply_monthly_incremental_filter('day') }}
        and {{ sluice.symbol_filter('token') }}

    {%- if is_incremental() %}

    union all

    -- The balances of the day before the window stand for every transfer before it.
    select token, address, {{ sluice.window_start() }} as day, balance as delta
    from {{ this }}
    where
        day = {{ sluice.add_days(sluice.window_start(), -1) }}
        and {{ sluice.symbol_filter('token') }}
    {%- endif %}
),

daily_deltas as (
    select token, address, day, sum(delta) as delta
    from deltas
    group by token, address, day
),

changes as (
    select
        token,
        address,
        day,
        cast(sum(delta) over (
            partition by token, address order by day
            rows between unbounded preceding and current row
        ) as decimal(18, 4)) as balance,
        lead(day, 1, {{ sluice.date_literal('2100-01-01') }}) over (
            partition by token, address order by day
        ) as next_change_day
    from daily_deltas
),

days as (
    select day
    from {{ source('raw', 'blocks_daily') }}
    {{ sluice.apply_monthly_incremental_filter('day') }}
)

select
    changes.token as token,
    changes.address as address,
    days.day as day,
    changes.balance
from changes
inner join days
    on days.day >= changes.day
    and days.day < changes.next_change_day
where changes.balance <> 0

{{ config(
    materialized='incremental',
    incremental_strategy=(
        'append'
        if target.type == 'clickhouse' and (var('start_month', none) or var('incremental_end_date', none))
        and not var('replace_partitions', false)
        else 'delete+insert'
    ),
    unique_key=['validator_index', 'day'],
    engine='ReplacingMergeTree()',
    order_by='(validator_index, day)',
    partition_by='toStartOfMonth(day)',
    tags=['production', 'refill_append'],
    meta={
        'full_refresh': {
            'start_date': '2021-01-01',
            'batch_months': 12,
            'stages': [
                {
                    'name': 'validators_0_100k',
                    'vars': {'validator_index_start': 0, 'validator_index_end': 100000},
                },
                {
                    'name': 'validators_100k_400k',
                    'start_date': '2021-05-01',
                    'vars': {'validator_index_start': 100000, 'validator_index_end': 400000},
                },
                {
                    'name': 'validators_400k_up',
                    'start_date': '2022-07-01',
                    'vars': {'validator_index_start': 400000},
                },
            ],
        },
    },
) }}

with balances as (
    select validator_index, day, balance_gwei
    from {{ source('raw', 'validator_balances') }}
    where {{ sluice.index_range_filter('validator_index') }}
),

window_balances as (
    select validator_index, day, balance_gwei
    from balances
    {{ sluice.apply_monthly_incremental_filter('day') }}
),

-- The day before the window is read too: its balance is the first day's yesterday.
yesterdays as (
    select validator_index, {{ sluice.add_days('day', 1) }} as day, balance_gwei
    from balances
    {{ sluice.apply_monthly_incremental_filter(sluice.add_days('day', 1)) }}
)

select
    window_balances.validator_index as validator_index,
    window_balances.day as day,
    window_balances.balance_gwei as balance_gwei,
    window_balances.balance_gwei
    - coalesce(yesterdays.balance_gwei, window_balances.balance_gwei) as change_gwei
from window_balances
left join yesterdays
    on yesterdays.validator_index = window_balances.validator_index
    and yesterdays.day = window_balances.day

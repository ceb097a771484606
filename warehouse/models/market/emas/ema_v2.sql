{{ config(materialized='incremental', incremental_strategy='rest_of_series', unique_key=['id', 'tf', 'bar_seq']) }}

{%- set keys = ['id', 'tf'] %}

-- Every day is a step, and a period of a timeframe is that many times its days long.
with recursive changed_ema as (
    select series.*, tfs.tf, tfs.days
    from ({{ changed_series(ref('price_bars_1d'), ['id']) }}) as series
    cross join (
        select '1D' as tf, 1 as days
        {%- for tf, unit, size in timeframes('multi_tf') %}
        union all select '{{ tf }}', {{ size }}
        {%- endfor %}
    ) as tfs
    where {{ fresh_ids_filter('series.id') }}
),

closes as (
    select changed_ema.id, changed_ema.tf, bars.bar_seq, bars.time_close as ts, bars.close, bars.loaded_at
    from {{ ref('price_bars_1d') }} as bars
    inner join changed_ema on bars.id = changed_ema.id
),

starts as (
    {{ ema_starts(keys) }}
),

{{ ema_fold(keys) }},

emas as (
    select folded.*, false as roll from folded
)

{{ ema_rows(keys) }}

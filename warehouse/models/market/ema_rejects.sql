{{ config(materialized='view') }}

-- EMAs at closes that lie outside half the lowest to twice the highest close of their last `period` bars.
{%- set emas = {
    'multi_tf': ref('ema_multi_tf'), 'cal': ref('ema_multi_tf_cal'), 'cal_anchor': ref('ema_multi_tf_cal_anchor'), 'v2': ref('ema_v2'),
} %}
{%- for variant, relation in emas.items() %}
{%- for period in ema_periods() %}
select *
from (
    select
        '{{ variant }}' as variant, id, {{ "'all'" if variant == 'v2' else 'scheme' }} as scheme, tf, ts, {{ period }} as period, ema_{{ period }} as ema,
        min(close) over bars / 2 as lower_bound, max(close) over bars * 2 as upper_bound
    from {{ relation }}
    where not roll
    window bars as (
        partition by id, {{ "" if variant == 'v2' else 'scheme, ' }}tf order by bar_seq rows between {{ period - 1 }} preceding and current row
    )
) as emas
where ema not between lower_bound and upper_bound
{{ 'union all' if not loop.last }}
{%- endfor %}
{{ 'union all' if not loop.last }}
{%- endfor %}

{{ config(materialized='view') }}

-- EMAs at closes that lie outside half the lowest to twice the highest close of their last `period` bars; in v2, whose
-- windows are up to 200 years long, of their series so far.
{%- set emas = {
    'multi_tf': ref('ema_multi_tf'), 'cal': ref('ema_multi_tf_cal'), 'cal_anchor': ref('ema_multi_tf_cal_anchor'), 'v2': ref('ema_v2'),
} %}

with bounded as (
    {%- for variant, relation in emas.items() %}
    {%- set is_v2 = variant == 'v2' %}
    select
        '{{ variant }}' as variant, id, {{ "'all'" if is_v2 else 'scheme' }} as scheme, tf, ts
        {%- for period in ema_periods() %},
        ema_{{ period }},
        min(close) over (series rows between {{ 'unbounded' if is_v2 else period - 1 }} preceding and current row) / 2 as lower_{{ period }},
        max(close) over (series rows between {{ 'unbounded' if is_v2 else period - 1 }} preceding and current row) * 2 as upper_{{ period }}
        {%- endfor %}
    from {{ relation }}
    where not roll
    window series as (partition by id, {{ '' if is_v2 else 'scheme, ' }}tf order by bar_seq)
    {{ 'union all' if not loop.last }}
    {%- endfor %}
)
{% for period in ema_periods() %}
select variant, id, scheme, tf, ts, {{ period }} as period, ema_{{ period }} as ema, lower_{{ period }} as lower_bound, upper_{{ period }} as upper_bound
from bounded
where ema_{{ period }} not between lower_{{ period }} and upper_{{ period }}
{{ 'union all' if not loop.last }}
{%- endfor %}

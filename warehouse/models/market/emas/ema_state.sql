{{ config(materialized='view') }}

-- A view of the rows themselves, like bars_state. last_load_ts is the load of the bars that the EMAs are made of.
with states as (
{%- for variant, relation in {
    'multi_tf': ref('ema_multi_tf'), 'cal': ref('ema_multi_tf_cal'), 'cal_anchor': ref('ema_multi_tf_cal_anchor'), 'v2': ref('ema_v2'),
}.items() %}
    select id, '{{ variant }}' as variant, max(loaded_at) as last_load_ts, max(ts) as last_ts
    from {{ relation }}
    group by id
    {{ 'union all' if not loop.last }}
{%- endfor %}
)

select states.*, coalesce(rejects.count_rejects, 0) as count_rejects
from states
left join (
    select id, variant, count(*) as count_rejects from {{ ref('ema_rejects') }} group by id, variant
) as rejects on states.id = rejects.id and states.variant = rejects.variant

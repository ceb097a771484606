{#-
  Returns the query of a model of EMAs over bars: for each finished bar the EMA at its close (roll false), and for each day
  inside a bar the EMA that the bar would have if it closed with that day (roll true). Null until `period` bars are in.

  kind   multi_tf, cal or cal_anchor
  bars   relations of bars by scheme
-#}
{% macro ema_of_bars(kind, bars) -%}
{%- set keys = ['id', 'scheme', 'tf'] -%}
{%- set columns = 'id, scheme, tf' -%}
with recursive bars as (
    {%- for scheme, relation in bars.items() %}
    select id, '{{ scheme }}' as scheme, tf, bar_seq, period_no, time_open, time_close, close, is_partial_end, loaded_at
    from {{ relation }}
    {%- if not loop.last %}
    union all
    {%- endif %}
    {%- endfor %}
),

changed_ema as (
    select series.*, 1 as days
    from ({{ changed_series('bars', keys) }}) as series
    where {{ fresh_ids_filter('series.id') }}
),

closes as (
    select {% for key in keys %}bars.{{ key }}, {% endfor %}bars.bar_seq, bars.time_close as ts, bars.close, bars.loaded_at
    from bars
    inner join changed_ema on {% for key in keys %}bars.{{ key }} = changed_ema.{{ key }}{{ ' and ' if not loop.last }}{% endfor %}
    where not bars.is_partial_end
),

starts as (
    {{ ema_starts(keys) }}
),

{{ ema_fold(keys) }},

known as (
    select {{ columns }}, bar_seq{% for period in ema_periods() %}, ema_{{ period }}{% endfor %} from folded

    union all

    select {{ columns }}, from_seq - 1{% for period in ema_periods() %}, ema_{{ period }}{% endfor %} from starts
    where from_seq > 1
),

{%- if kind != 'cal_anchor' %}

changed as (
    select days.id, min(days.bar_seq) as first_seq, max(changed_ema.loaded_at) as loaded_at
    from changed_ema
    inner join bars on {% for key in keys %}bars.{{ key }} = changed_ema.{{ key }} and {% endfor %}bars.bar_seq = changed_ema.first_seq
    inner join {{ ref('price_bars_1d') }} as days on bars.id = days.id and days.day = cast(bars.time_open as date)
    group by days.id
),
{%- endif %}

points as (
    {%- if kind == 'cal_anchor' %}
    select {{ columns }}, bar_seq, time_close, close, loaded_at from bars
    {%- else %}
    {%- for scheme in bars %}
    select days.id, bars.scheme, days.tf, bars.bar_seq, days.time_close, days.close, bars.loaded_at
    from ({{ period_days(kind, scheme) }}) as days
    inner join bars on days.id = bars.id and days.tf = bars.tf and days.period_no = bars.period_no and bars.scheme = '{{ scheme }}'
        and days.time_close <= bars.time_close
    {%- if not loop.last %}
    union all
    {%- endif %}
    {%- endfor %}
    {%- endif %}
),

emas as (
    select
        {{ columns }}, bar_seq, ts, false as roll, close, loaded_at
        {%- for period in ema_periods() %},
        ema_{{ period }}
        {%- endfor %}
    from folded

    union all

    select
        {% for key in keys %}points.{{ key }}, {% endfor %}
        points.bar_seq, points.time_close, true, points.close, points.loaded_at
        {%- for period in ema_periods() %},
        case
            when points.bar_seq = 1 then points.close
            else {{ ema_remainder(period) }} * known.ema_{{ period }} + (1 - {{ ema_remainder(period) }}) * points.close
        end
        {%- endfor %}
    from points
    left join known on {% for key in keys %}points.{{ key }} = known.{{ key }} and {% endfor %}points.bar_seq - 1 = known.bar_seq
)

{{ ema_rows(keys) }}
{%- endmacro %}

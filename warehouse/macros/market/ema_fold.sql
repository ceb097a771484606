{#-
  Returns CTEs that end in `folded`: each of the `closes` from its series' from_seq on, with ema_9 … ema_200. e(n) = (1 - α) e(n-1) + α close(n); the EMA before from_seq is what `starts` says, the first close where
  a series starts (e(1) is then the first close, too). The statement must begin with `with recursive`.

  The recursion in closed form, e(n) = (1 - α)^n (e(0) + Σ α (1 - α)^-j close(j)): a running sum of what is positive, so nothing
  cancels out. Blocks of 256 steps keep the powers small; what a block hands to the next is carried on by a recursive CTE.

  Reads the CTEs `starts` (keys, from_seq, days, ema_9 …) and `closes` (keys, bar_seq, ts, close,
  loaded_at).

  keys  names of the columns of a series
-#}
{% macro ema_fold(keys) -%}
    {{ return(adapter.dispatch('ema_fold')(keys)) }}
{%- endmacro %}

{% macro default__ema_fold(keys) -%}
{%- set block = 256 -%}
{%- set columns = keys | join(', ') -%}
steps as (
    select
        {% for key in keys %}closes.{{ key }}, {% endfor %}
        closes.bar_seq, closes.ts, closes.close, closes.loaded_at, starts.days,
        {{ whole_quotient('closes.bar_seq - starts.from_seq', block) }} as block,
        (closes.bar_seq - starts.from_seq) % {{ block }} + 1 as step
    from closes
    inner join starts on {% for key in keys %}closes.{{ key }} = starts.{{ key }} and {% endfor %}closes.bar_seq >= starts.from_seq
),

sums as (
    select
        {{ columns }}, bar_seq, ts, close, loaded_at, block, step, days
        {%- for period in ema_periods() %},
        sum((1 - {{ ema_remainder(period, 'days') }}) * power({{ ema_remainder(period, 'days') }}, -step) * close) over block as sum_{{ period }}
        {%- endfor %}
    from steps
    window block as (partition by {{ columns }}, block order by step rows between unbounded preceding and current row)
),

carried as (
    select {{ columns }}, 0 as block{% for period in ema_periods() %}, ema_{{ period }}{% endfor %}
    from starts

    union all

    select
        {% for key in keys %}carried.{{ key }}, {% endfor %}
        carried.block + 1
        {%- for period in ema_periods() %},
        power({{ ema_remainder(period, 'ends.days') }}, {{ block }}) * (carried.ema_{{ period }} + ends.sum_{{ period }})
        {%- endfor %}
    from carried
    inner join (select * from sums where step = {{ block }}) as ends
        on {% for key in keys %}carried.{{ key }} = ends.{{ key }} and {% endfor %}carried.block = ends.block
),

folded as (
    select
        {% for key in keys %}sums.{{ key }}, {% endfor %}
        sums.bar_seq, sums.ts, sums.close, sums.loaded_at
        {%- for period in ema_periods() %},
        power({{ ema_remainder(period, 'sums.days') }}, sums.step) * (carried.ema_{{ period }} + sums.sum_{{ period }}) as ema_{{ period }}
        {%- endfor %}
    from sums
    inner join carried on {% for key in keys %}sums.{{ key }} = carried.{{ key }} and {% endfor %}sums.block = carried.block
)
{%- endmacro %}

{#-
  Returns a query: where the recursion of each changed series starts (from_seq) and the EMAs before it. After a stored
  row whose EMAs are all there; a series without one starts from its first close, which costs little: it is short.
  Reads the CTEs `changed_ema` (keys, first_seq, days) and `closes`.

  keys  names of the columns of a series
-#}
{% macro ema_starts(keys) -%}
    {%- set is_partial = is_incremental() and not var('full_rebuild', false) %}
    select
        {% for key in keys %}changed_ema.{{ key }}, {% endfor %}
        changed_ema.days,
        {%- for period in ema_periods() %}
        {{ 'coalesce(stored.ema_' ~ period ~ ', firsts.close)' if is_partial else 'firsts.close' }} as ema_{{ period }},
        {%- endfor %}
        {{ 'case when stored.id is null then 1 else changed_ema.first_seq end' if is_partial else '1' }} as from_seq
    from changed_ema
    inner join closes as firsts on {% for key in keys %}changed_ema.{{ key }} = firsts.{{ key }} and {% endfor %}firsts.bar_seq = 1
    {%- if is_partial %}
    left join {{ this }} as stored
        on {% for key in keys %}changed_ema.{{ key }} = stored.{{ key }} and {% endfor %}stored.bar_seq = changed_ema.first_seq - 1
        and stored.bar_seq >= {{ ema_periods() | max }} and not stored.roll
    {%- endif %}
{%- endmacro %}

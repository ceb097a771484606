{#-
  Returns a query: the daily bars of the changed series, once for each timeframe, with the period that a day belongs to:
  `period_no`, and for calendars its first and last day. From the period of the first changed day on.
  Reads the CTE `changed`: id, first_seq, loaded_at of daily bars.

  kind    multi_tf: every N daily bars from the series' start make a period
          cal: N weeks or months each, counted from the first full one after the series' start
          cal_anchor: the same periods for every id, within the year or from the weeks' origin
  scheme  iso or us; see calendar_unit
-#}
{% macro period_days(kind, scheme='iso') -%}
    {%- set days = ref('price_bars_1d') -%}
    {%- set columns = ['id', 'day', 'time_close', 'time_open', 'time_high', 'time_low', 'open', 'high', 'low', 'close', 'volume',
                       'market_cap', 'is_repaired_time_high', 'is_repaired_time_low'] -%}
    {%- if kind == 'multi_tf' %}
    select
        {% for column in columns %}days.{{ column }}, {% endfor %}
        changed.loaded_at, tfs.tf, tfs.size,
        {{ whole_quotient('days.bar_seq - 1', 'tfs.size') }} as period_no
    from {{ days }} as days
    inner join changed on days.id = changed.id and days.bar_seq > changed.first_seq - 365
    inner join ({{ timeframe_rows(kind) }}) as tfs
        on {{ whole_quotient('days.bar_seq - 1', 'tfs.size') }} >= {{ whole_quotient('changed.first_seq - 1', 'tfs.size') }}
    {%- else %}
    select
        numbered.*,
        {{ first_day_of_unit('base + period_no * size', 'unit', scheme) }} as period_start,
        {{ sluice.add_days(first_day_of_unit('base + (period_no + 1) * size', 'unit', scheme), -1) }} as period_end
    from (
        select
            {% for column in columns %}days.{{ column }}, {% endfor %}
            starts.loaded_at, starts.series_start, starts.tf, starts.unit, starts.size, starts.base, starts.first_unit,
            {{ whole_quotient(calendar_unit('days.day', 'starts.unit', scheme) ~ ' - starts.base', 'starts.size') }} as period_no
        from {{ days }} as days
        inner join (
            select
                changed.id, changed.loaded_at, series.day as series_start, tfs.tf, tfs.unit, tfs.size,
                {{ sluice.add_days('went_on.day', -366) }} as since,
                {% if kind == 'cal' -%}
                {{ calendar_unit(sluice.add_days('series.day', -1), 'tfs.unit', scheme) }} + 1
                {%- else -%}
                0
                {%- endif %} as base,
                {{ calendar_unit('went_on.day', 'tfs.unit', scheme) }} as first_unit
            from changed
            inner join {{ days }} as series on changed.id = series.id and series.bar_seq = 1
            inner join {{ days }} as went_on on changed.id = went_on.id and went_on.bar_seq = changed.first_seq
            cross join ({{ timeframe_rows(kind) }}) as tfs
        ) as starts
            on days.id = starts.id and days.day >= starts.since
            and {{ calendar_unit('days.day', 'starts.unit', scheme) }} >= starts.base
    ) as numbered
    where first_unit < base or period_no >= {{ whole_quotient('greatest(first_unit - base, 0)', 'size') }}
    {%- endif %}
{%- endmacro %}

{% macro timeframe_rows(kind) -%}
    {%- for tf, unit, size in timeframes(kind) -%}
    select '{{ tf }}' as tf, {{ unit }} as unit, {{ size }} as size{{ ' union all ' if not loop.last }}
    {%- endfor -%}
{%- endmacro %}

{#-
  Returns the rows that a model of EMAs writes: those of the CTE `emas` from each series' first changed bar on, an EMA null until
  `period` values are in. Reads the CTE `changed_ema`, too.

  keys  names of the columns of a series
-#}
{% macro ema_rows(keys) -%}
select
    {% for key in keys %}emas.{{ key }}, {% endfor %}
    emas.bar_seq,
    emas.ts,
    emas.roll,
    emas.close,
    {%- for period in ema_periods() %}
    case when emas.bar_seq >= {{ period }} then emas.ema_{{ period }} end as ema_{{ period }},
    {%- endfor %}
    emas.loaded_at
from emas
inner join changed_ema on {% for key in keys %}emas.{{ key }} = changed_ema.{{ key }} and {% endfor %}emas.bar_seq >= changed_ema.first_seq
{%- endmacro %}

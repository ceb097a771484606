{#-
  Prints what all holders together are worth, day by day, and on how many rows the value is lost. Returns nothing;
  `dbt --quiet run-operation` runs it. Fails when `lost` is given and the rows that are worth nothing are not as many days.

  first, last  days, text like '2026-04-17', both inclusive
  lost_days    on how many of them a value must be lost
-#}
{% macro show_value_held(first, last, lost_days=none) -%}
    {%- set days = run_query(
        'select day, sum(balance_usd), count(*), sum(case when balance_usd = 0 then 1 else 0 end) from '
        ~ ref('int_balances_usd_daily') ~ ' where day >= ' ~ sluice.date_literal(first) ~ ' and day <= ' ~ sluice.date_literal(last)
        ~ ' group by day order by day'
    ).rows -%}
    {%- do print('   day             value held, USD   balances worth nothing') -%}
    {%- for day, value, balances, zeros in days -%}
        {%- do print('   ' ~ day ~ '  %20s   %s' | format('{:,.2f}'.format(value), '%d of %d' | format(zeros, balances) if zeros else '-')) -%}
    {%- endfor -%}
    {%- set lost = days | map(attribute=3) | map('int') | reject('equalto', 0) | list | length -%}
    {%- if lost_days is not none and lost != lost_days | int -%}
        {{ exceptions.raise_compiler_error('balances are worth nothing on ' ~ lost ~ ' days, not on ' ~ lost_days) }}
    {%- endif -%}
{%- endmacro %}

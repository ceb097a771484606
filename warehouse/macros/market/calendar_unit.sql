{#-
  Returns the number of the week or of the months that a day lies in, counted from a fixed origin: the week of Monday
  1900-01-01, or of Sunday 1899-12-31 for us, and January 1900.

  day     SQL expression of a date, not before 1900
  unit    SQL expression: 0 a week, else so many months
  scheme  iso: weeks start on Monday; us: on Sunday
-#}
{% macro calendar_unit(day, unit, scheme) -%}
    {%- set months = '(cast(extract(year from ' ~ day ~ ') as integer) - 1900) * 12 + cast(extract(month from ' ~ day ~ ') as integer) - 1' -%}
    case
        when {{ unit }} = 0 then {{ whole_quotient(day ~ ' - ' ~ calendar_origin(scheme), 7) }}
        else {{ whole_quotient(months, 'greatest(' ~ unit ~ ', 1)') }}
    end
{%- endmacro %}

{% macro calendar_origin(scheme) -%}
    {{ return(sluice.date_literal('1900-01-01' if scheme == 'iso' else '1899-12-31')) }}
{%- endmacro %}

{#- Returns the first day of a week or of months; the opposite of calendar_unit. -#}
{% macro first_day_of_unit(number, unit, scheme) -%}
    case
        when {{ unit }} = 0 then {{ sluice.add_days(calendar_origin(scheme), '(' ~ number ~ ') * 7') }}
        else cast({{ dbt.dateadd('month', '(' ~ number ~ ') * ' ~ unit, sluice.date_literal('1900-01-01')) | trim }} as date)
    end
{%- endmacro %}

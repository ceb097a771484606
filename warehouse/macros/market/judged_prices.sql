{#-
  Returns a query: the rows of raw.price_histories with their `day`, and the `reason` for which a row makes no bar, null when it
  does. Of several good rows of a day the latest makes the bar; `copy` tells rows apart that are equal. The reasons, in
  this order: null_price (a price is missing or no finite number), nonpositive, high_below_low,
  open_or_close_outside_range, future_day, duplicate_day.

  condition  which rows to look at, of `prices`
-#}
{% macro judged_prices(condition='true') -%}
    {%- set today = sluice.date_literal(modules.datetime.datetime.utcnow().date()) -%}
    select
        priced.*,
        case
            when fault is null and place > 1 then 'duplicate_day'
            else fault
        end as reason
    from (
        select
            faulty.*,
            row_number() over (
                partition by id, day, fault
                order by ts desc, close desc, open desc, high desc, low desc, volume desc, market_cap desc
            ) as place
        from (
            select
                prices.*,
                cast(ts as date) as day,
                case
                    -- NaN and infinity are greater than any price.
                    when open is null or high is null or low is null or close is null
                        or greatest(open, high, low, close) > 1e300 then 'null_price'
                    when least(open, high, low, close) <= 0 then 'nonpositive'
                    when high < low then 'high_below_low'
                    when open > high or open < low or close > high or close < low then 'open_or_close_outside_range'
                    when cast(ts as date) > {{ today }} then 'future_day'
                end as fault
            from {{ source('raw', 'price_histories') }} as prices
            where
                {{ ids_filter('prices.id') }}
                {%- if sluice.end_date() is not none %}
                and ts < {{ sluice.date_literal(sluice.end_date()) }}
                {%- endif %}
                and {{ condition }}
        ) as faulty
    ) as priced
{%- endmacro %}

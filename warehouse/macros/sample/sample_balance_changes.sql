{#-
  Returns, per token and address, the days on which a balance changes and by how much.

  A balance is drawn for its day, never walked up to: time is cut into slots of 16 days, a slot may
  hold one change, and the change is the difference to the balance drawn before. So a day's changes
  do not depend on where the sample ends. One draw in eight is zero: the holder leaves and may come
  back. On one day in seventeen nothing changes anywhere. The treasury gets its balance on a token's first
  day and keeps it, so that the supply never jumps.

  size  of sample_size
  end   last day, text
-#}
{% macro sample_balance_changes(size, end) -%}
    {%- set start = modules.datetime.date.fromisoformat(sample_start()) -%}
    {%- set slots = (modules.datetime.date.fromisoformat(end) - start).days // 16 + 1 -%}
    with addresses as (
        select concat('0x', {{ dbt.hash("concat('address/', number)") }}, substr({{ dbt.hash("concat('more/', number)") }}, 1, 8)) as address
        from ({{ sluice.number_series(size.addresses) }}) as numbers
    ),

    holders as (
        select
            tokens.token,
            addresses.address,
            {{ sluice.add_days('tokens.first_day', draw('joins', ['tokens.token', 'addresses.address'], 500)) }} as first_day,
            {{ draw('activity', ['tokens.token', 'addresses.address'], 4) }} as activity,
            case {{ draw('wealth', ['tokens.token', 'addresses.address'], 4) }}
                when 0 then 4 when 1 then 40 when 2 then 400 else 4000
            end as wealth
        from {{ source('raw', 'tokens') }} as tokens
        cross join addresses
        where {{ draw('holds', ['tokens.token', 'addresses.address'], 48) }} = 0
    ),

    slots as (
        select number as slot, {{ sluice.add_days(sluice.date_literal(start), 'number * 16') }} as first_day
        from ({{ sluice.number_series(slots) }}) as numbers
    ),

    chosen as (
        select
            holders.token,
            holders.address,
            holders.wealth,
            slots.slot,
            {{ sluice.add_days('slots.first_day', draw('day', ['holders.token', 'holders.address', 'slots.slot'], 16)) }} as day
        from holders
        inner join slots on slots.first_day >= holders.first_day
        where {{ draw('acts', ['holders.token', 'holders.address', 'slots.slot'], 6) }} <= holders.activity
    ),

    balances as (
        select
            token,
            address,
            day,
            case {{ draw('leaves', ['token', 'address', 'slot'], 8) }}
                when 0 then 0
                else ({{ draw('balance', ['token', 'address', 'slot'], 1000000) }} + 1) * wealth
            end as balance
        from chosen
        where
            day <= {{ sluice.date_literal(end) }}
            and {{ draw('quiet', ['day'], 17) }} <> 0

        union all

        select token, {{ sluice.quoted(sample_treasury()) }}, first_day, cast(40000000000 as bigint)
        from {{ source('raw', 'tokens') }}
        where first_day <= {{ sluice.date_literal(end) }}
    ),

    changes as (
        select
            token,
            address,
            day,
            balance - lag(balance, 1, 0) over (partition by token, address order by day) as change
        from balances
    )

    select token, address, day, change
    from changes
    where change <> 0
{%- endmacro %}

{#-
  Returns raw.transfers. Tokens come from and go to the zero address, part of them by way of a router
  that keeps nothing, so a day holds several transfers of one address and some that cancel out.

  size  of sample_size
  end   last day, text
-#}
{% macro sample_transfers(size, end) -%}
    with changes as (
        {{ sample_balance_changes(size, end) }}
    ),

    parts as (
        select
            token,
            address,
            change > 0 as is_gain,
            {{ dbt.dateadd('second', draw('second', ['token', 'address', 'day'], 86400), 'cast(day as timestamp)') | trim }} as block_time,
            abs(change) as units,
            -- Every balance is a multiple of four units, so quarters come out even.
            abs(change) * 0.25 * {{ draw('routed', ['token', 'address', 'day'], 4) }} as routed_units
        from changes
    ),

    moves as (
        select
            token, block_time, units - routed_units as units,
            case when is_gain then {{ sluice.quoted(var('zero_address')) }} else address end as from_address,
            case when is_gain then address else {{ sluice.quoted(var('zero_address')) }} end as to_address
        from parts

        union all

        select
            token, block_time, routed_units,
            case when is_gain then {{ sluice.quoted(var('zero_address')) }} else address end,
            {{ sluice.quoted(sample_router()) }}
        from parts
        where routed_units > 0

        union all

        select
            token, block_time, routed_units,
            {{ sluice.quoted(sample_router()) }},
            case when is_gain then address else {{ sluice.quoted(var('zero_address')) }} end
        from parts
        where routed_units > 0
    )

    select block_time, token, from_address, to_address, {{ sluice.fixed_point('units', 4) }} as amount
    from moves
{%- endmacro %}

{#-
  Returns a query: of each series in the CTE `periods` the bar_seq of the last bar that stays, where one does.
  Reads the CTE `changed`, too: a series that is written from its start keeps none.
-#}
{% macro kept_bars() -%}
    {%- if is_incremental() and not var('full_rebuild', false) %}
    select stored.id, stored.tf, max(stored.bar_seq) as bar_seq
    from {{ this }} as stored
    inner join (select id, tf, min(period_no) as period_no from periods group by id, tf) as fresh
        on stored.id = fresh.id and stored.tf = fresh.tf and stored.period_no < fresh.period_no
    inner join changed on stored.id = changed.id and changed.first_seq > 1
    group by stored.id, stored.tf
    {%- else %}
    select id, tf, 0 as bar_seq from periods where 1 = 0
    {%- endif %}
{%- endmacro %}

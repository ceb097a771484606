{#-
  Returns the transactions that are staged and not in the model, or there with another amount.

  parts  a mapping: domain, to the model that stages it
-#}
{% test complete(model, parts) %}
    {%- for domain, staged in parts.items() %}
    select staged.source, staged.txid
    from {{ ref(staged) }} as staged
    left join {{ model }} as unified
        on unified.domain = '{{ domain }}' and unified.source = staged.source and unified.txid = staged.txid
    where unified.txid is null or unified.amount <> staged.amount
    {{ 'union all' if not loop.last }}
    {%- endfor %}
{% endtest %}

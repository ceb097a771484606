{#-
  Returns the queries that make the raw tables, by table name, in the order in which they are made.

  size  of sample_size
  end   last day, text
-#}
{% macro sample_tables(size, end) -%}
    {{ return({
        'tokens': sample_tokens(size),
        'prices': sample_prices(end),
        'transfers': sample_transfers(size, end),
        'validator_balances': sample_validator_balances(size, end),
        'blocks_daily': sample_blocks_daily(end),
    }) }}
{%- endmacro %}

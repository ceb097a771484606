{#-
  Returns how many tokens, addresses and validators a scale stands for. The least keeps every stage filled.

  scale  1 is the full sample
-#}
{% macro sample_size(scale) -%}
    {{ return({
        'tokens': [6, (40 * scale) | round | int] | max,
        'addresses': [200, (2000 * scale) | round | int] | max,
        'validators': [12, (150 * scale) | round | int] | max,
    }) }}
{%- endmacro %}

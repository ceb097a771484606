{#-
  Returns the statements, for a pre_hook, after which Postgres joins without nested loops until the transaction ends. It knows
  nothing of the size of a CTE, takes it for small, and compared every row with every other: minutes instead of seconds.
  Without JIT, too: the plan's estimates are now beyond what they mean, and compiling would take longer than running.
-#}
{% macro join_by_hash() -%}
    {{ return('set local enable_nestloop = off; set local jit = off' if target.type == 'postgres' else '') }}
{%- endmacro %}

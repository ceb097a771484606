{#-
  Returns the statement that takes back what refill_safe_pre_hook of the same model set, for a post_hook, or of a model
  before it that failed: its own post_hook did not run.
-#}
{% macro refill_safe_post_hook() -%}
    {{ return(adapter.dispatch('refill_safe_post_hook', 'sluice')()) }}
{%- endmacro %}

{% macro default__refill_safe_post_hook() -%}
    {{ return('') }}
{%- endmacro %}

{% macro clickhouse__refill_safe_post_hook() -%}
    {%- set before = model.get('sluice_settings_before') -%}
    {{ return(sluice.set_settings(before) if before else '') }}
{%- endmacro %}

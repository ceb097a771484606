{#-
  Returns the statement that keeps the model's queries within bounds, for a pre_hook: memory capped,
  grouping and sorting on disk beyond a limit, joins that can spill. Nothing where the engine does so by itself.

  memory_gib  most that a query may take, GiB; a lower limit of the user stays
  spill_gib   what a group-by or a sort may take before it goes to disk, GiB
-#}
{% macro refill_safe_pre_hook(memory_gib=8, spill_gib=2) -%}
    {{ return(adapter.dispatch('refill_safe_pre_hook', 'sluice')(memory_gib, spill_gib)) }}
{%- endmacro %}

{#- DuckDB spills at its memory_limit, Postgres at its work_mem. -#}
{% macro default__refill_safe_pre_hook(memory_gib, spill_gib) -%}
    {{ return('') }}
{%- endmacro %}

{% macro clickhouse__refill_safe_pre_hook(memory_gib, spill_gib) -%}
    {%- set spill = (spill_gib * 1024 ** 3) | int -%}
    {%- set bounds = {
        'max_memory_usage': (memory_gib * 1024 ** 3) | int,
        'max_bytes_before_external_group_by': spill,
        'max_bytes_before_external_sort': spill,
        'join_algorithm': 'grace_hash,hash',
    } -%}
    {%- if execute -%}
        {%- set sessions = graph.setdefault('sluice_settings_before', {}) -%}
        {#- A model that failed on this thread ran no post_hook: its bounds are still set, and what was before is known. -#}
        {%- if thread_id not in sessions -%}
            {%- set current = run_query("select getSetting('" ~ bounds | join("'), getSetting('") ~ "')").rows[0] -%}
            {#- SET … = DEFAULT would forget what the user's profile says, a lower limit too; the post_hook finds this. -#}
            {%- do sessions.update({thread_id: dict(zip(bounds, current.values()))}) -%}
        {%- endif -%}
        {%- set before = sessions[thread_id] -%}
        {%- set limit = before.max_memory_usage | int -%}
        {%- do bounds.update({'max_memory_usage': [bounds.max_memory_usage, limit or bounds.max_memory_usage] | min}) -%}
    {%- endif -%}
    {{ return(sluice.set_settings(bounds)) }}
{%- endmacro %}

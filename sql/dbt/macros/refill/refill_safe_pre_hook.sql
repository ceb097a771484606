{#-
  Returns the statement that keeps the model's queries within bounds, for a pre_hook: memory capped,
  grouping and sorting on disk beyond a limit, joins that can spill, and no insert taken for the repetition of an
  earlier one. Nothing where the engine does so by itself.

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
        'insert_deduplicate': 0,
        'deduplicate_insert': 'disable',
        'deduplicate_insert_select': 'disable',
    } -%}
    {%- if execute -%}
        {#- Rows that came, were replaced by wrong ones, and come again are the same block as once: within a table's window
            of deduplication the server would drop them without a word. Newer servers ask deduplicate_insert instead of
            insert_deduplicate; older ones do not know it. -#}
        {%- set asked = "name in ('" ~ bounds | join("', '") ~ "', 'log_comment')" -%}
        {%- set before = dict(run_query('select name, value from system.settings where ' ~ asked).rows | map('list')) -%}
        {#- A model that failed ran no post_hook: its bounds are still set, and what was before them stands in the comment. -#}
        {%- if before.log_comment.startswith('before sluice: ') -%}
            {%- set before = fromjson(before.log_comment.removeprefix('before sluice: ')) -%}
        {%- endif -%}
        {%- for name in bounds | list if name not in before -%}{%- do bounds.pop(name) -%}{%- endfor -%}
        {#- SET … = DEFAULT would forget what the user's profile says, a lower limit too; the post_hook finds this. -#}
        {%- do model.update({'sluice_settings_before': before}) -%}
        {%- do bounds.update({'log_comment': 'before sluice: ' ~ tojson(before)}) -%}
        {%- set limit = before.max_memory_usage | int -%}
        {%- do bounds.update({'max_memory_usage': [bounds.max_memory_usage, limit or bounds.max_memory_usage] | min}) -%}
    {%- endif -%}
    {{ return(sluice.set_settings(bounds)) }}
{%- endmacro %}

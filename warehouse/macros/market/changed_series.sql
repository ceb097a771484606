{#-
  Returns a query: for each series of `source` that has rows which this model has not seen, the first of them
  (`first_seq`) and when they were loaded (`loaded_at`). Every row from there on is new, because whoever writes a
  series writes it from some row to its end. All series when the table is built anew, or with the var full_rebuild.

  What was seen is read from the model's own rows, so it commits with them, and a run that was cut off misses nothing.

  source   relation with bar_seq and loaded_at
  columns  names of the columns that a series has in `source` and in this model
-#}
{% macro changed_series(source, columns) -%}
    {%- set keys = columns | join(', ') -%}
    {%- set is_partial = is_incremental() and not var('full_rebuild', false) %}
    select {% for column in columns %}bars.{{ column }}, {% endfor %}
        {{ 'min(bars.bar_seq)' if is_partial else '1' }} as first_seq, max(bars.loaded_at) as loaded_at
    from {{ source }} as bars
    {%- if is_partial %}
    left join (select {{ keys }}, max(loaded_at) as loaded_at from {{ this }} group by {{ keys }}) as seen
        on {% for column in columns %}bars.{{ column }} = seen.{{ column }} and {% endfor %}bars.loaded_at <= seen.loaded_at
    {%- endif %}
    where {{ ids_filter('bars.id') }}{% if is_partial %} and seen.id is null{% endif %}
    group by {% for column in columns %}bars.{{ column }}{{ ', ' if not loop.last }}{% endfor %}
{%- endmacro %}

{#-
  Replaces the days after one day in every raw table that has days. blocks_daily, which says how far
  the data goes, is written last: without transactions a run that was cut short is made good by the next.

  size  of sample_size
  kept  the last day that stays, text
  end   last day to write, text
-#}
{% macro write_sample_days(size, kept, end) -%}
    {%- set statements = [] -%}
    {%- for name, rows in sample_tables(size, end).items() if name != 'tokens' -%}
        {%- set day = 'cast(block_time as date)' if name == 'transfers' else 'day' -%}
        {%- set after_kept = day ~ ' > ' ~ sluice.date_literal(kept) -%}
        {%- do statements.append('delete from ' ~ source('raw', name) ~ ' where ' ~ after_kept) -%}
        {%- do statements.append('insert into ' ~ source('raw', name) ~ ' select * from (' ~ rows ~ ') as made where ' ~ after_kept) -%}
    {%- endfor -%}
    {%- do sluice.run_together(statements) -%}
{%- endmacro %}

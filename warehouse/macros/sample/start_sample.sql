{#-
  Makes the raw tables where they are not there, and empties them when they were made by another recipe.

  size    of sample_size
  recipe  text that changes with everything the rows depend on, apart from the last day
-#}
{% macro start_sample(size, recipe) -%}
    {%- set recipes = source('raw', 'tokens').incorporate(path={'identifier': 'sample_recipe'}) -%}
    {%- set no_recipe = "select cast('' as varchar(100)) as recipe" -%}
    {%- do sluice.run_together([sluice.create_table_as(recipes, no_recipe, rows=false, if_not_exists=true)]) -%}

    {%- set found = run_query('select count(*) from ' ~ recipes ~ ' where recipe = ' ~ sluice.quoted(recipe)) -%}
    {%- if not found.rows[0][0] -%}
        {%- set statements = [] -%}
        {%- for name, rows in sample_tables(size, sample_start()).items() -%}
            {#- Never dropped: on Postgres the views of the models depend on them. -#}
            {%- set table = source('raw', name) -%}
            {%- do statements.append(sluice.create_table_as(table, rows, rows=false, if_not_exists=true)) -%}
            {%- do statements.append('delete from ' ~ table ~ ' where true') -%}
        {%- endfor -%}
        {%- do statements.append('insert into ' ~ source('raw', 'tokens') ~ ' ' ~ sample_tokens(size)) -%}
        {%- do statements.append('delete from ' ~ recipes ~ ' where true') -%}
        {%- do statements.append('insert into ' ~ recipes ~ ' values (' ~ sluice.quoted(recipe) ~ ')') -%}
        {%- do sluice.run_together(statements) -%}
    {%- endif -%}
{%- endmacro %}

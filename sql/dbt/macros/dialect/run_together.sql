{#-
  Runs statements in one transaction where the engine has them: all of them happen, or none.

  statements  list of SQL statements
-#}
{% macro run_together(statements) -%}
    {{ return(adapter.dispatch('run_together', 'sluice')(statements)) }}
{%- endmacro %}

{% macro default__run_together(statements) -%}
    {%- do run_query('begin; ' ~ statements | join('; ') ~ '; commit') -%}
{%- endmacro %}

{% macro clickhouse__run_together(statements) -%}
    {%- for sql in statements -%}
        {%- do run_query(sql) -%}
    {%- endfor -%}
{%- endmacro %}

{#-
  Writes that this invocation of dbt began, in one row of run_event. For on-run-start, with audit_on_run_end:

      on-run-start: "{{ sluice.audit_on_run_start() }}"
      on-run-end:   "{{ sluice.audit_on_run_end(results) }}"

  Then dbt runs that Sluice did not start are known too: `plan-daily --history warehouse` decides by them. The tables are those of
  sql/state/, in the schema that the var sluice_audit_schema names (sluice); they are made when they are not there. Returns nothing.
-#}
{% macro audit_on_run_start() -%}
    {%- if execute and sluice.audit_is_wanted() -%}
        {%- set at = sluice.audit_schema() -%}
        {%- if not sluice.audit_tables_exist() -%}
            {%- do log('sluice: making the audit tables in ' ~ at, info=true) -%}
            {%- do sluice.run_together(sluice.audit_tables(at)) -%}
        {%- endif -%}
        {%- set asked = {'which': flags.WHICH, 'select': invocation_args_dict.get('select'), 'exclude': invocation_args_dict.get('exclude')} -%}
        {%- set vars = invocation_args_dict.get('vars') or {} -%}
        {%- set row = sluice.audit_run('began') -%}
        {%- do row.update({
            'argv': tojson(asked), 'vars': vars if vars is string else tojson(vars), 'models_planned': selected_resources | length,
        }) -%}
        {%- do sluice.run_together([sluice.audit_insert(at ~ '.run_event', [row])]) -%}
    {%- endif -%}
{%- endmacro %}

{#- Whether dbt was started by somebody else than Sluice, which keeps its own record of its batches. -#}
{% macro audit_is_wanted() -%}
    {{ return(not env_var('SLUICE_STARTED_DBT', '')) }}
{%- endmacro %}

{#- What each event of this invocation says of it. The var sluice_run is the run it belongs to, where a procedure began one. -#}
{% macro audit_run(event) -%}
    {{ return({
        'event': event, 'at': sluice.audit_time(modules.datetime.datetime.now(modules.pytz.utc)), 'run_id': invocation_id,
        'root_run_id': var('sluice_run', invocation_id), 'plan_id': invocation_id, 'project_name': project_name, 'environment': target.name,
        'intent': 'dbt', 'attempt': 1, 'code_version': 'dbt ' ~ dbt_version,
    }) }}
{%- endmacro %}

{#- The schema of the audit tables, as it stands in SQL. -#}
{% macro audit_schema() -%}
    {%- set name = sluice.quoted_name(var('sluice_audit_schema', 'sluice')) -%}
    {{ return(sluice.quoted_name(target.database) ~ '.' ~ name if target.type == 'duckdb' else name) }}
{%- endmacro %}

{#- Whether the last of the tables and views to be made is there. -#}
{% macro audit_tables_exist() -%}
    {%- set here = " and table_catalog = '" ~ target.database ~ "'" if target.type == 'duckdb' else '' -%}
    {%- set schema, last = var('sluice_audit_schema', 'sluice'), 'auto_restart_history' -%}
    {%- if target.type == 'snowflake' -%}{%- set schema, last = schema | upper, last | upper -%}{%- endif -%}
    {%- set found = run_query(
        "select count(*) from information_schema.tables where table_name = " ~ sluice.quoted(last) ~ " and table_schema = "
        ~ sluice.quoted(schema) ~ here
    ) -%}
    {{ return(found.rows[0][0] > 0) }}
{%- endmacro %}

{#- A moment (datetime in UTC, or none) as SQL. -#}
{% macro audit_time(moment) -%}
    {{ return(adapter.dispatch('audit_time', 'sluice')(moment.strftime('%Y-%m-%d %H:%M:%S.%f')[:23]) if moment else none) }}
{%- endmacro %}

{% macro default__audit_time(text) -%}
    {{ return({'sql': "cast('" ~ text ~ "+00' as timestamptz)"}) }}
{%- endmacro %}

{% macro snowflake__audit_time(text) -%}
    {{ return({'sql': "'" ~ text ~ "+00:00'"}) }}
{%- endmacro %}

{% macro clickhouse__audit_time(text) -%}
    {{ return({'sql': "toDateTime64('" ~ text ~ "', 3, 'UTC')"}) }}
{%- endmacro %}

{#-
  Returns one INSERT of all rows.

  table  quoted name
  rows   list of dicts with the same keys; a value is none, a number, true or false, {'sql': …}, or else a text
-#}
{% macro audit_insert(table, rows) -%}
    {%- set lines = [] -%}
    {%- for row in rows -%}
        {%- set values = [] -%}
        {%- for value in row.values() -%}
            {%- if value is none -%}{%- do values.append('null') -%}
            {%- elif value is mapping -%}{%- do values.append(value['sql']) -%}
            {%- elif value is boolean -%}{%- do values.append('true' if value else 'false') -%}
            {%- elif value is number -%}{%- do values.append(value | string) -%}
            {%- else -%}{%- do values.append(sluice.quoted(value)) -%}
            {%- endif -%}
        {%- endfor -%}
        {%- do lines.append('(' ~ values | join(', ') ~ ')') -%}
    {%- endfor -%}
    {%- set names = [] -%}
    {%- for name in rows[0] -%}{%- do names.append(sluice.quoted_name(name)) -%}{%- endfor -%}
    {{ return('insert into ' ~ table ~ ' (' ~ names | join(', ') ~ ') values ' ~ lines | join(', ')) }}
{%- endmacro %}

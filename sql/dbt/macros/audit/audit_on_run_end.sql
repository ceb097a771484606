{#-
  Writes what became of this invocation of dbt: one insert for all of its nodes, one for the run. See audit_on_run_start.
  Returns nothing.

  results  what dbt hands to on-run-end
-#}
{% macro audit_on_run_end(results) -%}
    {%- if execute and sluice.audit_is_wanted() -%}
        {%- set at = sluice.audit_schema() -%}
        {%- set words = {'success': 'SUCCESS', 'pass': 'SUCCESS', 'warn': 'SUCCESS', 'skipped': 'SKIPPED', 'fail': 'FAIL'} -%}
        {%- set rows = [] -%}
        {%- for result in results if result.node.resource_type in ('model', 'seed', 'snapshot', 'test', 'unit_test') -%}
            {%- set node = result.node -%}
            {%- set times = result.timing | selectattr('name', 'equalto', 'execute') | list -%}
            {%- set how = node.config.materialized -%}
            {%- set affected = (result.adapter_response or {}).get('rows_affected') -%}
            {%- set written = affected if affected is number and affected >= 0 else none -%}
            {%- set is_incremental = how == 'incremental' and not (flags.FULL_REFRESH or node.config.full_refresh) -%}
            {%- do rows.append({
                'at': sluice.audit_time(modules.datetime.datetime.now(modules.pytz.utc)), 'run_id': invocation_id,
                'project_name': project_name, 'model_name': node.name, 'unique_id': node.unique_id, 'batch_id': invocation_id,
                'status': words.get(result.status | string, 'ERROR'), 'duration_seconds': result.execution_time,
                'rows_affected': written, 'message': (result.message or '')[:4000] or none, 'schema_name': node.schema,
                'database_name': node.database, 'materialization': how, 'is_incremental': is_incremental,
                'started_at': sluice.audit_time(times[0].started_at) if times else none,
                'ended_at': sluice.audit_time(times[0].completed_at) if times else none,
            }) -%}
        {%- endfor -%}
        {%- set failed = rows | selectattr('status', 'in', ['ERROR', 'FAIL']) | list -%}
        {%- set ran = rows | rejectattr('status', 'equalto', 'SKIPPED') | list -%}
        {%- set run = sluice.audit_run('ended') -%}
        {%- do run.update({
            'run_status': 'FAILED' if failed else 'SUCCESS', 'models_run': ran | length, 'models_failed': failed | length,
        }) -%}
        {%- set nodes = [sluice.audit_insert(at ~ '.model_event', rows)] if rows else [] -%}
        {%- do sluice.run_together(nodes + [sluice.audit_insert(at ~ '.run_event', [run])]) -%}
    {%- endif -%}
{%- endmacro %}

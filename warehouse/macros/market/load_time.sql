{#- Returns an SQL timestamp: now, UTC. The rows that a run writes carry it, and what reads them sees what is new. -#}
{% macro load_time() -%}
    {{ return("cast('" ~ modules.datetime.datetime.utcnow().isoformat(' ', 'microseconds') ~ "' as timestamp)") }}
{%- endmacro %}

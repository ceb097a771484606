{#-
  Returns ClickHouse's statement that sets settings for the rest of the session.

  settings  values by name
-#}
{% macro set_settings(settings) -%}
    {%- set assignments = [] -%}
    {%- for name, value in settings.items() -%}
        {%- do assignments.append(name ~ ' = ' ~ sluice.quoted(value)) -%}
    {%- endfor -%}
    {{ return('set ' ~ assignments | join(', ')) }}
{%- endmacro %}

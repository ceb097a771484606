{#-
  Says something of this run to people: Sluice puts it into the batch's result and the digest, a plain dbt into its log.
  Returns nothing.

  text  one line
-#}
{% macro note(text) -%}
    {%- do log('sluice note: ' ~ text, info=true) -%}
{%- endmacro %}

{#-
  Returns up to 20 values with commas, and how many more there are.

  values  a list
-#}
{% macro listed(values) -%}
    {{ return(values[:20] | join(', ') ~ (' and ' ~ (values | length - 20) ~ ' more' if values | length > 20 else '')) }}
{%- endmacro %}

{#-
  Returns a number from 0 to sides - 1 that depends on nothing but the salt and the keys: the dice
  of the sample data. No random(), so a day's rows are the same whenever they are made.

  salt   text, tells this draw from the others made with the same keys
  keys   SQL expressions
  sides  how many numbers are possible
-#}
{% macro draw(salt, keys, sides) -%}
    ({{ sluice.hash_number("concat('" ~ salt ~ "', '/', " ~ keys | join(", '/', ") ~ ")") }} % {{ sides }})
{%- endmacro %}

{# No two rows have the same values in all these columns. #}
{% test unique_combination_of_columns(model, combination_of_columns) %}
{%- set columns = combination_of_columns | join(', ') %}
select {{ columns }}, count() as n_records
from {{ model }}
group by {{ columns }}
having n_records > 1
{% endtest %}

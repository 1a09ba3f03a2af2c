{# All lines with one key have the same values in these columns, so the first stands for all. #}
{% test same_on_all_lines(model, key, columns) %}
with repeated as (
    select {{ key }} from {{ model }} where LineNumber = 2
)

select {{ key }}, groupUniqArray(({{ columns | join(', ') }})) as different
from {{ model }}
where {{ key }} in repeated
group by {{ key }}
having length(different) > 1
{% endtest %}

{# Tests look at the months of this run, where a table has months. #}
{% macro clickhouse__get_where_subquery(relation) %}
    {%- set where = config.get('where') or 'true' -%}
    {% do return('(select * from ' ~ relation ~ ' where ' ~ where ~ ' and ' ~ in_months_of(relation) ~ ')') %}
{% endmacro %}


{% macro in_months_of(relation) -%}
    {%- set partition_by = partition_by_of(relation) -%}
    {{ in_partitions(partition_by) if partition_by else 'true' }}
{%- endmacro %}


{% macro partition_by_of(relation) %}
    {%- for node in graph.get('nodes', {}).values() -%}
        {%- if node.resource_type == 'model' and (node.schema, node.alias) == (relation.schema, relation.identifier) -%}
            {% do return(node.config.partition_by) %}
        {%- endif -%}
    {%- endfor -%}
{% endmacro %}


{# Also refuses the zero of a type, which is what ClickHouse has where a join finds nothing. #}
{% macro default__test_not_null(model, column_name) %}
select *
from {{ model }}
where {{ column_name }} is null
    or {{ column_name }} = defaultValueOfTypeName(toTypeName({{ column_name }}))
{% endmacro %}


{# The adapter's own reads all of the parent, whatever the months. #}
{% macro clickhouse__test_relationships(model, column_name, to, field) %}
select *
from {{ model }}
where {{ column_name }} not in (select {{ field }} from {{ to }} where {{ in_months_of(to) }})
{% endmacro %}


{#
  Counts what fails, and keeps the first thousand failing rows in quality_failures, for 90 days, since
  they may tell of customers; of a test that passes nothing is kept. dbt's own makes a table for each
  test, which costs more than the test.
#}
{% materialization test, adapter='clickhouse' %}
    {% call statement('main', fetch_result=True) %}
        {{ get_test_sql(
            sql, config.get('fail_calc'), config.get('warn_if'), config.get('error_if'), none
        ) }}
    {% endcall %}
    {% if should_store_failures() %}
        {% set kept = api.Relation.create(
            schema=model.schema, identifier=model.alias, type='table'
        ) %}
        {% if load_result('main').table.rows[0][0] %}
            {% call statement('keep') %}
                create or replace table {{ kept }} engine = MergeTree order by tuple()
                ttl kept_at + interval 90 day as
                select *, now() as kept_at from ({{ sql }}) limit 1000
            {% endcall %}
        {% elif load_cached_relation(kept) is not none %}
            {% do drop_table(kept) %}
        {% endif %}
    {% endif %}
    {{ return({'relations': []}) }}
{% endmaterialization %}

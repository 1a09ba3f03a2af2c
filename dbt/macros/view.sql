{#
  A view that takes the old one's place with its descriptions. The adapter's own is described by a
  second statement, which fails where another dbt has put its view in that place meanwhile. As of a
  table, its columns are those that the model declares: ClickHouse would leave out or convert others.
#}
{% materialization view, adapter='clickhouse' %}
    {%- set view = this.incorporate(type='view') -%}

    {{ run_hooks(pre_hooks) }}

    {%- set made = [] -%}
    {%- for column in run_query('describe (' ~ sql ~ ')').rows -%}
        {%- do made.append([column['name'], column['type']]) -%}
    {%- endfor -%}
    {% do require_contract(made) %}
    {% do run_query('select ' ~ require_room()) %}
    {% call statement('main') %}
        create or replace view {{ view }} (
            {%- for column in model.columns.values() %}
            {{ adapter.quote(column.name) }} {{ column.data_type }}
                comment {{ clickhouse_escape_comment(column.description) | trim }}
                {{- ',' if not loop.last }}
            {%- endfor %}
        )
        as {{ sql }}
        comment {{ clickhouse_escape_comment(model.description) | trim }}
    {% endcall %}

    {{ run_hooks(post_hooks) }}

    {{ return({'relations': [view]}) }}
{% endmaterialization %}

{#
  A view that takes the old one's place with its descriptions. The adapter's own is described by a
  second statement, which fails where another dbt has put its view in that place meanwhile.
#}
{% materialization view, adapter='clickhouse' %}
    {%- set view = this.incorporate(type='view') -%}

    {{ run_hooks(pre_hooks) }}

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

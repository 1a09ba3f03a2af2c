{#
  A table that is built aside, in the database of the target, and then takes the old one's place,
  so that readers see the old rows or the new ones, and a killed run leaves the old ones.

  With partition_by: toYYYYMM(…), a run of some months replaces these, those left without rows too.
  All else is replaced whole.

  The adapter's own table and incremental fill a table that is new while it can be read, leave the
  tables of killed runs between the published ones, and insert_overwrite keeps a month that has no
  rows any more.
#}
{% materialization staged, adapter='clickhouse' %}

    {%- set table = this.incorporate(type='table') -%}
    {%- set aside = api.Relation.create(
        schema=target.schema,
        identifier=this.schema ~ '__' ~ this.identifier ~ '__' ~ invocation_id | replace('-', ''),
        type='table',
    ) -%}
    {%- set by_month = config.get('partition_by') is not none and months() is not none -%}

    {{ run_hooks(pre_hooks) }}

    {% call statement('main') %}
        {{ get_create_table_as_sql(False, aside, sql) }}
    {% endcall %}

    {% call statement('room') %}
        {{ require_room() }}
    {% endcall %}
    {% call statement('create') %}
        create table if not exists {{ table }} as {{ aside }}
    {% endcall %}
    {% if by_month %}
        {% do replace_partitions(table, aside) %}
    {% else %}
        {% do exchange_tables_atomic(aside, table) %}
    {% endif %}
    {% do persist_docs(table, model) %}
    {% do adapter.drop_relation(aside) %}

    {{ run_hooks(post_hooks) }}

    {{ return({'relations': [table]}) }}

{% endmaterialization %}


{#
  Fails on a full disk, before anything is defined: ClickHouse, where it runs from libchdb, leaves an
  empty definition then, with which the table is gone.
#}
{% macro require_room() -%}
    select throwIf(filesystemAvailable() < 1048576, 'No space left on device')
{%- endmacro %}


{% macro replace_partitions(table, aside) %}
    {% set answer = run_query(
        "select"
        ~ " (select groupUniqArray(partition_id) from system.parts where active"
        ~ "  and database = '" ~ aside.schema ~ "' and table = '" ~ aside.identifier ~ "'),"
        ~ " (select uniqExact(columns) from ("
        ~ "   select groupArray((name, type)) as columns"
        ~ "   from (select * from system.columns order by position)"
        ~ "   where (database, table) in (('" ~ table.schema ~ "', '" ~ table.identifier ~ "'),"
        ~ "     ('" ~ aside.schema ~ "', '" ~ aside.identifier ~ "'))"
        ~ "   group by database, table))"
    ) %}
    {% set filled, structures = answer.rows[0] %}
    {% if structures > 1 %}
        {% do exceptions.raise_compiler_error(
            'The columns of ' ~ table ~ ' have changed: run dbt without months, which makes it anew.'
        ) %}
    {% endif %}
    {% call statement('replace_partitions') %}
        alter table {{ table }}
        {%- for id in partition_ids() %}
            {% if id in filled -%}
                replace partition id '{{ id }}' from {{ aside }}
            {%- else -%}
                drop partition id '{{ id }}'
            {%- endif %}
            {{- ',' if not loop.last }}
        {%- endfor %}
    {% endcall %}
{% endmacro %}

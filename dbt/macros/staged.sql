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
        create table {{ aside }}
        {{ engine_clause() }}
        {{ order_cols(label='order by') }}
        {{ partition_cols(label='partition by') }}
        as {{ sql }}
        {{ adapter.get_model_query_settings(model) }}
    {% endcall %}

    {%- set state = state_of(table, aside) -%}
    {% do require_contract(state.made) %}
    {% if not state.there %}
        {% call statement('room') %}
            {{ require_room() }}
        {% endcall %}
        {% call statement('create') %}
            create table if not exists {{ table }} as {{ aside }}
        {% endcall %}
    {% elif by_month and state.there != state.made %}
        {% do exceptions.raise_compiler_error(
            'The columns of ' ~ table ~ ' have changed: run dbt without months, which makes it anew.'
        ) %}
    {% endif %}

    {% if by_month %}
        {% if state.orders | length > 1 %}
            {% do write_in_order_of(aside, table) %}
        {% endif %}
        {% do document(table, state.comments) %}
        {% do replace_partitions(table, aside, state.filled) %}
    {% else %}
        {% do document(aside, {}) %}
        {% do exchange_tables_atomic(aside, table) %}
    {% endif %}
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


{#
  In one answer, since most tables take less time than to ask: the columns [name, type] of the table
  aside (`made`) and of the one in place (`there`), the latter's comments by column, its own under '',
  which months the table aside has rows of (`filled`), and how the two are sorted (`orders`).
#}
{% macro state_of(table, aside) %}
    {# Not by pairs (database, table), for which ClickHouse goes through all tables. #}
    {%- set of_both = (
        "database in ('" ~ table.schema ~ "', '" ~ aside.schema ~ "')"
        ~ " and table in ('" ~ table.identifier ~ "', '" ~ aside.identifier ~ "')"
    ) -%}
    {% set answer = run_query(
        "select"
        ~ " (select groupArray([database || '.' || table, name, type, comment])"
        ~ "   from (select * from system.columns where " ~ of_both ~ " order by position)),"
        ~ " (select groupArray([database || '.' || table, sorting_key, comment])"
        ~ "   from system.tables where " ~ of_both ~ "),"
        ~ " (select groupUniqArray(partition_id) from system.parts where active"
        ~ "   and database = '" ~ aside.schema ~ "' and table = '" ~ aside.identifier ~ "')"
    ) %}
    {%- set of_table = table.schema ~ '.' ~ table.identifier -%}
    {%- set of_aside = aside.schema ~ '.' ~ aside.identifier -%}
    {%- set made, there, comments, orders = [], [], {}, [] -%}
    {# dbt gives arrays as JSON. #}
    {%- set columns, tables, filled = answer.rows[0] -%}
    {%- for of, name, type, comment in fromjson(columns) -%}
        {%- if of == of_aside -%}
            {%- do made.append([name, type]) -%}
        {%- elif of == of_table -%}
            {%- do there.append([name, type]) -%}
            {%- do comments.update({name: comment}) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- for of, order, comment in fromjson(tables) if of in (of_aside, of_table) -%}
        {%- do orders.append(order) if order not in orders -%}
        {%- do comments.update({'': comment}) if of == of_table -%}
    {%- endfor -%}
    {% do return({
        'made': made, 'there': there, 'comments': comments, 'filled': fromjson(filled),
        'orders': orders,
    }) %}
{% endmacro %}


{# What dbt calls a contract: the columns are those of the model's description, in its order. #}
{% macro require_contract(made) %}
    {%- set declared = [] -%}
    {%- for column in model.columns.values() -%}
        {%- do declared.append([column.name, column.data_type]) -%}
    {%- endfor -%}
    {% if made != declared %}
        {% set differing = [] %}
        {% for name, type in declared if [name, type] not in made %}
            {% do differing.append(name ~ ' is declared as ' ~ type ~ ' and is ' ~ dict(made).get(name, 'missing')) %}
        {% endfor %}
        {% for name, type in made if name not in model.columns %}
            {% do differing.append(name ~ ' is not declared') %}
        {% endfor %}
        {% do exceptions.raise_compiler_error(
            'The query of ' ~ this ~ ' does not keep its contract: '
            ~ (differing | join('; ') or 'its columns are in another order than they are declared in')
        ) %}
    {% endif %}
{% endmacro %}


{# Gives a table and its columns their descriptions, unless these are its comments. #}
{% macro document(relation, comments) %}
    {%- set changes = [] -%}
    {%- if comments.get('') != model.description -%}
        {%- do changes.append('modify comment ' ~ clickhouse_escape_comment(model.description) | trim) -%}
    {%- endif -%}
    {%- for column in model.columns.values() if comments.get(column.name) != column.description -%}
        {%- do changes.append(
            'comment column ' ~ adapter.quote(column.name) ~ ' '
            ~ clickhouse_escape_comment(column.description) | trim
        ) -%}
    {%- endfor -%}
    {% if changes %}
        {% call statement('document') %}
            alter table {{ relation }} {{ changes | join(', ') }}
        {% endcall %}
    {% endif %}
{% endmacro %}


{#
  Has the rows of a table, which an older version of the project sorted otherwise, sorted as those of
  the table aside: partitions go from one table to another only where both are sorted the same.
#}
{% macro write_in_order_of(aside, table) %}
    {%- set anew = aside.incorporate(path={'identifier': aside.identifier ~ '__sorted'}) -%}
    {% call statement('define_sorted') %}
        create table {{ anew }} as {{ table }} {{ engine_clause() }}
        {{ order_cols(label='order by') }}
        {{ partition_cols(label='partition by') }}
    {% endcall %}
    {% call statement('fill_sorted') %}
        insert into {{ anew }} select * from {{ table }}
    {% endcall %}
    {% do exchange_tables_atomic(anew, table) %}
    {% do adapter.drop_relation(anew) %}
{% endmacro %}


{% macro replace_partitions(table, aside, filled) %}
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

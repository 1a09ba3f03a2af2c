{#
  A table that is built aside, in the database of the target, and then takes the old one's place,
  so that readers see the old rows or the new ones, and a killed run leaves the old ones.

  With partition_by: toYYYYMM(…), a run of some months replaces these, those left without rows too.
  All else is replaced whole.

  Where two dbt make one table at once, one waits for the other (see `built_alone`).

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

    {%- set state = built_alone(table, aside, sql) -%}
    {% do require_contract(state.made) %}
    {% if not state.there %}
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
    {% do drop_table(aside) %}

    {{ run_hooks(post_hooks) }}

    {{ return({'relations': [table]}) }}

{% endmaterialization %}


{#
  Builds the table aside from its query while nobody else makes the same table, and returns the state
  of both. The table aside is the sign by which others know: one that sees another waits until that is
  gone, or has been still for some seconds, as a killed run leaves it. Of two that see each other the
  later by name gives way and builds anew, so what is published last was read last too.

  Without it ClickHouse, told twice at once to replace a partition, can keep the rows of both.
#}
{% macro built_alone(table, aside, sql) %}
    {%- set at = namespace(built=false, state=none) -%}
    {%- for _ in range(3000) -%}
        {%- if not at.built -%}
            {% call statement('main') %}
                create table {{ aside }}
                {{ engine_clause() }}
                {{ order_cols(label='order by') }}
                {{ partition_cols(label='partition by') }}
                as {{ sql }}
                {{ adapter.get_model_query_settings(model) }}
            {% endcall %}
            {%- set at.built = true -%}
        {%- endif -%}
        {%- set at.state = state_of(table, aside) -%}
        {%- set others = alive(at.state.others) if at.state.others else [] -%}
        {%- if not others -%}
            {% do return(at.state) %}
        {%- endif -%}
        {%- if others | min < aside.identifier -%}
            {% do drop_table(aside) %}
            {%- set at.built = false -%}
        {%- else -%}
            {# Or others would take it for that of a killed run. #}
            {% do run_query('alter table ' ~ aside ~ " modify comment 'waits for its turn'") %}
        {%- endif -%}
        {% do run_query('select sleep(0.2)') %}
    {%- endfor -%}
    {% do exceptions.raise_compiler_error(
        'Another dbt has been making ' ~ table ~ ' for ten minutes. Run dbt again when it has ended.'
    ) %}
{% endmacro %}


{# The adapter's own makes all that macros know anew for it, which takes longer than dropping. #}
{% macro drop_table(table) %}
    {% call statement('drop') %}
        drop table if exists {{ table }}
    {% endcall %}
{% endmacro %}


{# Which of the tables aside somebody fills, or did a moment ago. #}
{% macro alive(tables) %}
    {%- set still = 'now() - interval 5 second' -%}
    {%- set names = "('" ~ tables | join("', '") ~ "')" -%}
    {% set answer = run_query(
        "select groupArray(name) from system.tables"
        ~ " where database = '" ~ target.schema ~ "' and name in " ~ names
        ~ " and (metadata_modification_time > " ~ still
        ~ "   or name in (select table from system.parts where active"
        ~ "     and database = '" ~ target.schema ~ "' and modification_time > " ~ still ~ ")"
        ~ "   or arrayExists(query -> position(query, '`' || name) > 0,"
        ~ "     (select groupArray(query) from system.processes)))"
    ) %}
    {% do return(fromjson(answer.rows[0][0])) %}
{% endmacro %}


{#
  Fails on a full disk, before what readers see is defined: ClickHouse, where it runs from libchdb,
  leaves an empty definition then, with which what was there is gone. A table aside may go.
#}
{% macro require_room() -%}
    throwIf(filesystemAvailable() < 1048576, 'No space left on device')
{%- endmacro %}


{#
  In one answer, since most tables take less time than to ask: the columns [name, type] of the table
  aside (`made`) and of the one in place (`there`), the latter's comments by column, its own under '',
  which months the table aside has rows of (`filled`), how the two are sorted (`orders`), and other
  tables aside for the one in place (`others`).

  Fails on a full disk.
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
        ~ "   and database = '" ~ aside.schema ~ "' and table = '" ~ aside.identifier ~ "'),"
        ~ " (select groupArray(name) from system.tables where database = '" ~ aside.schema ~ "'"
        ~ "   and startsWith(name, '" ~ table.schema ~ "__" ~ table.identifier ~ "__')"
        ~ "   and not startsWith(name, '" ~ aside.identifier ~ "')),"
        ~ require_room()
    ) %}
    {%- set of_table = table.schema ~ '.' ~ table.identifier -%}
    {%- set of_aside = aside.schema ~ '.' ~ aside.identifier -%}
    {%- set made, there, comments, orders = [], [], {}, [] -%}
    {# dbt gives arrays as JSON. #}
    {%- set columns, tables, filled, others, _ = answer.rows[0] -%}
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
        'orders': orders, 'others': fromjson(others),
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
    {% do drop_table(anew) %}
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

{#
  The months that this run makes anew, such as ['2010-12']; none where it makes all of them.

      dbt build --vars '{months: ["2010-12", "2011-01"]}'
#}
{% macro months() %}
    {%- set months = var('months', none) -%}
    {%- if months is none -%}
        {% do return(none) %}
    {%- endif -%}
    {%- set example = 'It must be a list such as ["2010-12", "2011-01"].' -%}
    {%- if months is string or months is not iterable or not months -%}
        {% do exceptions.raise_compiler_error('The variable months is ' ~ months ~ '. ' ~ example) %}
    {%- endif -%}
    {%- for month in months -%}
        {%- if not modules.re.fullmatch('[0-9]{4}-(0[1-9]|1[0-2])', month | string) -%}
            {% do exceptions.raise_compiler_error('The variable months has ' ~ month ~ '. ' ~ example) %}
        {%- endif -%}
    {%- endfor -%}
    {% do return(months) %}
{% endmacro %}


{# The same as ClickHouse calls the partitions of toYYYYMM(…). #}
{% macro partition_ids() %}
    {%- set ids = [] -%}
    {%- for month in months() -%}
        {% do ids.append(month | replace('-', '')) %}
    {%- endfor -%}
    {% do return(ids) %}
{% endmacro %}


{# Whether a time is in the months of this run. #}
{% macro in_months(time) -%}
    {{ in_partitions('toYYYYMM(' ~ time ~ ')') }}
{%- endmacro %}


{% macro in_partitions(month_number) -%}
    {%- if months() is none -%} true {%- else -%} {{ month_number }} in ({{ partition_ids() | join(', ') }}) {%- endif -%}
{%- endmacro %}

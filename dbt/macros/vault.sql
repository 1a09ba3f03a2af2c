{#
  A hub of what outlives months: its business key, with the load that brought it first.

  It is made from all that has been staged, which never forgets: so it is the same in whatever order
  months arrive, at the cost of reading four columns.
#}
{% macro hub(name, business_key) %}
select
    hub_{{ name }}_hash_key,
    {{ business_key }},
    {{ first_load() }}
from {{ source('raw', 'psa_online_retails') }} as staged
group by hub_{{ name }}_hash_key, {{ business_key }}
{% endmacro %}


{# A link between an invoice line and another hub: that of the first line with its key. #}
{% macro link_invoice(name) %}
select
    link_invoice_{{ name }}_hash_key,
    hub_invoice_hash_key,
    hub_{{ name }}_hash_key,
    InvoiceDate,
    LOAD_DATETIME,
    RECORD_SOURCE
from {{ source('raw', 'psa_online_retails') }}
where LineNumber = 1 and {{ in_months('InvoiceDate') }}
{% endmacro %}


{# When and by what the rows of a group, called staged, were first loaded. #}
{% macro first_load() -%}
    min(staged.LOAD_DATETIME) as LOAD_DATETIME,
    argMin(staged.RECORD_SOURCE, (staged.LOAD_DATETIME, staged.RECORD_SOURCE)) as RECORD_SOURCE
{%- endmacro %}

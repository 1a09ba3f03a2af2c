{{ config(
    partition_by='toYYYYMM(InvoiceDate)', order_by='InvoiceDate',
    query_settings={'enable_join_runtime_filters': 0}
) }}
{#- Every line finds its keys: to look beforehand for lines that find none is in vain. #}

{%- set links = ['product', 'customer', 'time', 'country'] %}

select
    line.hub_invoice_hash_key as hub_invoice_hash_key,
    line.LineNumber as LineNumber,
    {%- for name in links %}
    to_{{ name }}.hub_{{ name }}_hash_key as hub_{{ name }}_hash_key,
    {%- endfor %}
    invoice.InvoiceNo as InvoiceNo,
    invoice.InvoiceDate as InvoiceDate,
    customer.CustomerID as CustomerID,
    line.Quantity as Quantity,
    line.UnitPrice as UnitPrice,
    line.TotalAmount as TotalAmount,
    line.ReturnStatus as ReturnStatus,
    line.Sheet as Sheet
from (
    select * from {{ ref('sat_invoice') }} where {{ in_months('EFFECTIVE_FROM') }}
) as line
inner join (
    select * from {{ ref('hub_invoice') }} where {{ in_months('InvoiceDate') }}
) as invoice on line.hub_invoice_hash_key = invoice.hub_invoice_hash_key
{%- for name in links %}
inner join (
    select * from {{ ref('link_invoice_' ~ name) }} where {{ in_months('InvoiceDate') }}
) as to_{{ name }} on line.hub_invoice_hash_key = to_{{ name }}.hub_invoice_hash_key
{%- endfor %}
inner join {{ ref('hub_customer') }} as customer
    on to_customer.hub_customer_hash_key = customer.hub_customer_hash_key

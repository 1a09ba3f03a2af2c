{{ config(materialized='view') }}

with lines as (
    select *
    from {{ ref('bridge_invoice') }}
    where Sheet = {{ dbt.string_literal(dbt.escape_single_quotes(var('original_sheet'))) }}
),

last_of_each_key as (
    select hub_invoice_hash_key, max(LineNumber)
    from lines
    group by hub_invoice_hash_key
)

select
    multiIf(
        CustomerID = 0, 'anomaly_customer_invoices',
        ReturnStatus = 'Return', 'Fact_Sale_Returns',
        'Fact_Sales'
    ) as original_table,
    hub_invoice_hash_key as sale_id,
    InvoiceNo as invoice_no,
    InvoiceDate as invoice_date,
    hub_product_hash_key as product_key,
    hub_customer_hash_key as customer_key,
    hub_time_hash_key as time_key,
    hub_country_hash_key as country_key,
    Quantity as quantity,
    UnitPrice as unit_price,
    TotalAmount as total_amount
from lines
where (hub_invoice_hash_key, LineNumber) in last_of_each_key

{{ config(partition_by='toYYYYMM(check_date)', order_by='check_date') }}

with lines as (
    select invoice_date, 'sale' as kind, unit_price, quantity
    from {{ ref('Fact_Sales') }}
    where {{ in_months('invoice_date') }}
    union all
    select invoice_date, 'return' as kind, unit_price, quantity
    from {{ ref('Fact_Sale_Returns') }}
    where {{ in_months('invoice_date') }}
    union all
    select invoice_date, 'customer missing' as kind, unit_price, quantity
    from {{ ref('anomaly_customer_invoices') }}
    where {{ in_months('invoice_date') }}
)

select
    toDate(max(invoice_date)) as check_date,
    countIf(kind = 'customer missing') / nullIf(countIf(kind != 'customer missing'), 0)
        as missing_customer_id_ratio,
    countIf(kind = 'sale' and unit_price <= 0) as anomaly_unit_price_count,
    countIf(kind = 'sale' and quantity > 1000) as anomaly_quantity_count
from lines
group by toYYYYMM(invoice_date)

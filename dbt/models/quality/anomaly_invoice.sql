{{ config(partition_by='toYYYYMM(invoice_date)', order_by='invoice_date') }}

select *
from {{ ref('Fact_Sales') }}
where (unit_price <= 0 or quantity > 1000)
    and {{ in_months('invoice_date') }}

{{ config(partition_by='toYYYYMM(sales_date)', order_by='sales_date') }}

select
    toDate(invoice_date) as sales_date,
    min(total_amount) as min_total_amount,
    max(total_amount) as max_total_amount,
    quantileExactInclusive(0.5)(toFloat64(total_amount)) as median_total_amount,
    avg(total_amount) as avg_total_amount,
    sum(total_amount) as volume
from {{ ref('Fact_Sales') }}
where {{ in_months('invoice_date') }}
group by sales_date

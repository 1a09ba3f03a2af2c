{{ config(materialized='view') }}

with facts as (
    select * from {{ ref('original_facts') }}
),

sales as (
    select * from facts where original_table = 'Fact_Sales'
),

latest_day as (
    select
        toDate(invoice_date) as sales_date,
        min(total_amount) as min_total_amount,
        max(total_amount) as max_total_amount,
        quantileExactInclusive(0.5)(toFloat64(total_amount)) as median_total_amount,
        avg(total_amount) as avg_total_amount,
        sum(total_amount) as volume
    from sales
    group by sales_date
    order by sales_date desc
    limit 1
),

counts as (
    select
        countIf(original_table = 'Fact_Sales') as fact_sales_count,
        countIf(original_table = 'Fact_Sale_Returns') as fact_sale_returns_count,
        countIf(original_table = 'anomaly_customer_invoices') as missing_customer_count,
        countIf(original_table = 'Fact_Sales' and unit_price <= 0) as anomaly_unit_price_count,
        countIf(original_table = 'Fact_Sales' and quantity > 1000) as anomaly_quantity_count
    from facts
)

select
    counts.anomaly_unit_price_count as anomaly_unit_price_count,
    counts.anomaly_quantity_count as anomaly_quantity_count,
    missing_customer_count / nullIf(fact_sales_count + fact_sale_returns_count, 0)
        as missing_customer_id_ratio,
    latest_day.min_total_amount as latest_min_total_amount,
    latest_day.max_total_amount as latest_max_total_amount,
    latest_day.median_total_amount as latest_median_total_amount,
    latest_day.avg_total_amount as latest_avg_total_amount,
    latest_day.volume as latest_sales_volume,
    latest_day.sales_date as latest_day,
    counts.fact_sales_count as fact_sales_count,
    counts.fact_sale_returns_count as fact_sale_returns_count
from latest_day
cross join counts

{{ config(order_by='product_key') }}

with latest as (
    select hub_product_hash_key, toNullable(argMax(Description, EFFECTIVE_FROM)) as description
    from {{ ref('sat_product') }}
    group by hub_product_hash_key
)

select
    product.hub_product_hash_key as product_key,
    product.StockCode as stock_code,
    latest.description as description
from {{ ref('hub_product') }} as product
left join latest on product.hub_product_hash_key = latest.hub_product_hash_key

{{ config(order_by='customer_key') }}

with latest as (
    select
        hub_customer_hash_key,
        argMax(hub_country_hash_key, (EFFECTIVE_FROM, hub_country_hash_key)) as country_key
    from {{ ref('link_customer_country') }}
    group by hub_customer_hash_key
)

select
    customer.hub_customer_hash_key as customer_key,
    customer.CustomerID as customer_id,
    latest.country_key as country_key
from {{ ref('hub_customer') }} as customer
inner join latest on customer.hub_customer_hash_key = latest.hub_customer_hash_key

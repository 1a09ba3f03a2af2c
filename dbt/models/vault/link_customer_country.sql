{{ config(order_by='hub_customer_hash_key') }}

select
    link_customer_country_hash_key,
    hub_customer_hash_key,
    hub_country_hash_key,
    min(InvoiceDate) as EFFECTIVE_FROM,
    {{ first_load() }}
from {{ source('raw', 'psa_online_retails') }} as staged
group by link_customer_country_hash_key, hub_customer_hash_key, hub_country_hash_key

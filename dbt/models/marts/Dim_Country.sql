{{ config(order_by='country_key') }}

select
    hub_country_hash_key as country_key,
    Country as country_name
from {{ ref('hub_country') }}

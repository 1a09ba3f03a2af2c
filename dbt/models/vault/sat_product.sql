{{ config(order_by=['hub_product_hash_key', 'EFFECTIVE_FROM']) }}

with with_the_one_before as (
    select
        *,
        lagInFrame(toNullable(Description)) over (
            partition by hub_product_hash_key order by EFFECTIVE_FROM
        ) as description_before
    from {{ ref('product_descriptions') }}
)

select
    hub_product_hash_key,
    Description,
    EFFECTIVE_FROM,
    LOAD_DATETIME,
    RECORD_SOURCE
from with_the_one_before
where description_before is null or Description != description_before

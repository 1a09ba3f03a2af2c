{{ config(
    partition_by='toYYYYMM(EFFECTIVE_FROM)', order_by=['hub_product_hash_key', 'EFFECTIVE_FROM']
) }}

with last_of_each_time as (
    select
        hub_product_hash_key,
        InvoiceDate,
        assumeNotNull(Description) as description,
        LOAD_DATETIME,
        RECORD_SOURCE
    from {{ source('raw', 'psa_online_retails') }}
    where Description != '' and {{ in_months('InvoiceDate') }}
    order by hub_product_hash_key, InvoiceDate, Sheet desc, Row desc, description
    limit 1 by hub_product_hash_key, InvoiceDate
),

with_the_one_before as (
    select
        *,
        lagInFrame(toNullable(description)) over (
            partition by hub_product_hash_key, toYYYYMM(InvoiceDate) order by InvoiceDate
        ) as description_before
    from last_of_each_time
)

select
    hub_product_hash_key,
    description as Description,
    InvoiceDate as EFFECTIVE_FROM,
    LOAD_DATETIME,
    RECORD_SOURCE
from with_the_one_before
where description_before is null or description != description_before

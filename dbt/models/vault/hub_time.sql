{{ config(partition_by='toYYYYMM(InvoiceDate)', order_by='hub_time_hash_key') }}

select
    hub_time_hash_key,
    InvoiceDate,
    {{ first_load() }}
from {{ source('raw', 'psa_online_retails') }} as staged
where {{ in_months('InvoiceDate') }}
group by hub_time_hash_key, InvoiceDate

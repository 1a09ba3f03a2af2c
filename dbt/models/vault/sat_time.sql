{{ config(partition_by='toYYYYMM(EFFECTIVE_FROM)', order_by='hub_time_hash_key') }}

select
    hub_time_hash_key,
    toDate(InvoiceDate) as date,
    toYear(InvoiceDate) as year,
    toMonth(InvoiceDate) as month,
    toDayOfWeek(InvoiceDate) as day_of_week,
    InvoiceDate as EFFECTIVE_FROM,
    LOAD_DATETIME,
    RECORD_SOURCE
from {{ ref('hub_time') }}
where {{ in_months('InvoiceDate') }}

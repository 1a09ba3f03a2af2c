{{ config(partition_by='toYYYYMM(InvoiceDate)', order_by='InvoiceDate') }}

select
    hub_invoice_hash_key,
    InvoiceNo,
    InvoiceDate,
    LOAD_DATETIME,
    RECORD_SOURCE
from {{ source('raw', 'psa_online_retails') }}
where LineNumber = 1 and {{ in_months('InvoiceDate') }}

{{ config(partition_by='toYYYYMM(EFFECTIVE_FROM)', order_by='EFFECTIVE_FROM') }}

select
    hub_invoice_hash_key,
    LineNumber,
    Invoice,
    Quantity,
    UnitPrice,
    TotalAmount,
    ReturnStatus,
    Sheet,
    Row,
    InvoiceDate as EFFECTIVE_FROM,
    LOAD_DATETIME,
    RECORD_SOURCE
from {{ source('raw', 'psa_online_retails') }}
where {{ in_months('InvoiceDate') }}

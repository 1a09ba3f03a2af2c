{{ config(partition_by='toYYYYMM(InvoiceDate)', order_by='hub_invoice_hash_key') }}

{{ link_invoice('time') }}

{{ config(partition_by='toYYYYMM(InvoiceDate)', order_by='InvoiceDate') }}

{{ link_invoice('country') }}

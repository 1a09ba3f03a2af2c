{{ config(partition_by='toYYYYMM(invoice_date)', order_by='invoice_date') }}

{{ facts("CustomerID != 0 and ReturnStatus = 'Return'") }}

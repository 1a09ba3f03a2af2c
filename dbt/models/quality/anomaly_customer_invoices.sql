{{ config(partition_by='toYYYYMM(invoice_date)', order_by=['sale_id', 'line_number']) }}

{{ facts('CustomerID = 0') }}

{{ config(order_by='hub_customer_hash_key') }}

{{ hub('customer', 'CustomerID') }}

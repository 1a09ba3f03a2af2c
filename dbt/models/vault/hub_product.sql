{{ config(order_by='hub_product_hash_key') }}

{{ hub('product', 'StockCode') }}

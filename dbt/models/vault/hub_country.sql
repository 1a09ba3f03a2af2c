{{ config(order_by='hub_country_hash_key') }}

{{ hub('country', 'Country') }}

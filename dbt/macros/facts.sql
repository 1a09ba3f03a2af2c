{# The columns of the facts, of those invoice lines for which a condition holds. #}
{% macro facts(condition) %}
select
    hub_invoice_hash_key as sale_id,
    LineNumber as line_number,
    InvoiceNo as invoice_no,
    InvoiceDate as invoice_date,
    hub_product_hash_key as product_key,
    hub_customer_hash_key as customer_key,
    hub_time_hash_key as time_key,
    hub_country_hash_key as country_key,
    Quantity as quantity,
    UnitPrice as unit_price,
    TotalAmount as total_amount
from {{ ref('bridge_invoice') }}
where {{ condition }}
    and {{ in_months('InvoiceDate') }}
{% endmacro %}

{#
  Each month has as many lines as staging, and they amount to the same, to the last digit.

  The tables of `together_with` have the same columns, and count in.
#}
{% test reconciled_with_staging(model, time, amount, together_with=[]) %}
select
    toYYYYMM(invoice_date) as month,
    sum(lines) as missing_lines,
    sum(total_amount) as missing_amount
from (
    select InvoiceDate as invoice_date, 1 as lines, TotalAmount as total_amount
    from {{ source('raw', 'psa_online_retails') }}
    where {{ in_months('InvoiceDate') }}
    union all
    select {{ time }} as invoice_date, -1 as lines, -{{ amount }} as total_amount
    from {{ model }}
    {%- for other in together_with %}
    union all
    select {{ time }} as invoice_date, -1 as lines, -{{ amount }} as total_amount
    from {{ other }}
    where {{ in_months(time) }}
    {%- endfor %}
)
group by month
having missing_lines != 0 or missing_amount != 0
{% endtest %}

{{ config(partition_by='toYYYYMM(date)', order_by='time_key') }}

select
    hub_time_hash_key as time_key,
    date,
    year,
    month,
    day_of_week
from {{ ref('sat_time') }}
where {{ in_months('EFFECTIVE_FROM') }}

{{ config(materialized='incremental', incremental_strategy='append') }}

-- After the bars, so that what was rejected with their last load is what is younger than they are.
-- depends_on: {{ ref('price_bars_1d') }}

with rejects as (
    select
        id, ts, day, reason, open, high, low, close, volume, market_cap,
        cast(row_number() over (partition by id, ts, reason order by open, high, low, close, volume, market_cap) as integer) as copy
    from ({{ judged_prices() }}) as judged
    where reason is not null
)

select rejects.*, {{ load_time() }} as loaded_at
from rejects
{%- if is_incremental() %}
where not exists (
    select 1 from {{ this }} as known
    where known.id = rejects.id and known.ts = rejects.ts and known.reason = rejects.reason and known.copy = rejects.copy
)
{%- endif %}
